-- The buffer of the collector, version 1.  Blobs come last in their rows, so that
-- everything before them is read without touching overflow pages.  State lives
-- beside the blobs (delivery, queue, history), never in their rows: rewriting a
-- row that carries a blob costs several times the blob's own write.

-- Small named values: destinations' next tries, rates of an agent, the clock.
CREATE TABLE meta(
	key TEXT NOT NULL PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Counters, written in the transaction of what they count.
CREATE TABLE counter(
	signal INTEGER NOT NULL,
	name TEXT NOT NULL,
	reason INTEGER NOT NULL,
	value INTEGER NOT NULL,
	PRIMARY KEY(signal, name, reason)
) STRICT, WITHOUT ROWID;

-- Who spoke, and how far its stream is stored ("upto").
CREATE TABLE probe(
	id INTEGER PRIMARY KEY,
	probe_id BLOB NOT NULL UNIQUE,
	boot_id BLOB NOT NULL,
	pid INTEGER NOT NULL,
	start_ticks INTEGER NOT NULL,
	upto INTEGER NOT NULL,
	closed INTEGER NOT NULL,
	losses BLOB NOT NULL,
	spans INTEGER NOT NULL,
	mono_ns INTEGER NOT NULL,
	real_ns INTEGER NOT NULL,
	seen_real_ns INTEGER NOT NULL,
	attrs BLOB NOT NULL
) STRICT;

-- Batches as they came (CMB1).  crc: CRC-32C of the other columns and the blob.
CREATE TABLE raw(
	id INTEGER PRIMARY KEY,
	probe INTEGER NOT NULL,
	first INTEGER NOT NULL,
	upto INTEGER NOT NULL,
	spans INTEGER NOT NULL,
	real_ns INTEGER NOT NULL,
	crc INTEGER NOT NULL,
	blob BLOB NOT NULL
) STRICT;

-- Bundles (CMC1) of traces that are still open.
CREATE TABLE segment(
	id INTEGER PRIMARY KEY,
	probe INTEGER NOT NULL,
	spans INTEGER NOT NULL,
	crc INTEGER NOT NULL,
	blob BLOB NOT NULL
) STRICT;

-- Bundles (CMC1) ready to be sent, or sent and kept for the local views.
CREATE TABLE chunk(
	id INTEGER PRIMARY KEY,
	probe INTEGER NOT NULL,
	signal INTEGER NOT NULL,
	class INTEGER NOT NULL,
	traces INTEGER NOT NULL,
	spans INTEGER NOT NULL,
	start_real_ns INTEGER NOT NULL,
	end_real_ns INTEGER NOT NULL,
	created_real_ns INTEGER NOT NULL,
	crc INTEGER NOT NULL,
	blob BLOB NOT NULL
) STRICT;

-- Chunks that some destination still awaits, in the order in which they lose.
CREATE TABLE queue(
	class INTEGER NOT NULL,
	chunk INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	created_real_ns INTEGER NOT NULL,
	PRIMARY KEY(class, chunk)
) STRICT, WITHOUT ROWID;

-- Chunks that have ended.
CREATE TABLE history(
	chunk INTEGER PRIMARY KEY,
	bytes INTEGER NOT NULL,
	created_real_ns INTEGER NOT NULL
) STRICT;

-- Configured destinations; an id is never given to another name.
CREATE TABLE destination(
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE,
	active INTEGER NOT NULL
) STRICT;

-- state: 0 queued, 1 sent, 2 rejected (status: HTTP), 3 dropped (status: the reason).
CREATE TABLE delivery(
	chunk INTEGER NOT NULL,
	destination INTEGER NOT NULL,
	state INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	next_try INTEGER NOT NULL,
	status INTEGER NOT NULL,
	PRIMARY KEY(chunk, destination)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_ready ON delivery(destination, chunk) WHERE state = 0 AND next_try = 0;
CREATE INDEX delivery_later ON delivery(destination, next_try, chunk)
	WHERE state = 0 AND next_try > 0;
