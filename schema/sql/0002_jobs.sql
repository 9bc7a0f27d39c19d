-- Version 2: the journal of jobs.  What is asked for has a column of its own; all
-- of a job is in the blob, which later versions may lengthen.  People read
-- jobs.db instead, which is made from this.
-- crc: CRC-32C of the other columns and the blob.  state: 0 queued, 1 running, above: final.
CREATE TABLE job(
	id INTEGER PRIMARY KEY,
	version INTEGER NOT NULL,
	probe INTEGER NOT NULL,
	state INTEGER NOT NULL,
	queued_real_ns INTEGER NOT NULL,
	ended_real_ns INTEGER NOT NULL,
	prompt_id TEXT NOT NULL,
	crc INTEGER NOT NULL,
	blob BLOB NOT NULL
) STRICT;
CREATE INDEX job_version ON job(version);
CREATE INDEX job_prompt ON job(prompt_id, id);
CREATE INDEX job_state ON job(state);
CREATE INDEX job_open ON job(probe, id) WHERE state < 2;

-- Final states that a webhook is to be told, in the order of id.  refusals: of the
-- attempts, how often the far end said no.  next_try: real time, nanoseconds.
CREATE TABLE notice(
	id INTEGER PRIMARY KEY,
	job INTEGER NOT NULL,
	state INTEGER NOT NULL,
	attempts INTEGER NOT NULL,
	refusals INTEGER NOT NULL,
	next_try INTEGER NOT NULL,
	UNIQUE(job, state)
) STRICT;
CREATE INDEX notice_due ON notice(next_try);
