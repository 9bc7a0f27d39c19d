-- jobs.db: every job that comfymon knows, for any SQLite tool (3.8 or later),
-- while the collector runs.  Times are nanoseconds since 1970 (UTC); NULL is
-- "not known" or "not yet".  The collector makes this file from its buffer and
-- makes it anew when it is gone: what you write into it may be overwritten.  A
-- transaction that you leave open delays it, and nothing else.
CREATE TABLE job(
	id INTEGER PRIMARY KEY,  -- grows; never given twice
	boot_id TEXT NOT NULL,   -- one life of a ComfyUI process, 32 hex digits
	prompt_id TEXT NOT NULL, -- ComfyUI's, which a client may repeat
	item INTEGER,            -- number in ComfyUI's queue
	state TEXT NOT NULL,     -- queued running succeeded failed interrupted cancelled lost resubmitted
	reason TEXT,             -- why it ended so: error, oom_gpu, oom_cgroup, killed, crash_segv, ...
	certainty TEXT,          -- of a reason that is a verdict: certain likely unsure
	signal INTEGER,          -- that ended its process
	node_id TEXT,            -- that failed, or was at work when the process died
	node_class TEXT,
	error_type TEXT,         -- class of the node's exception
	queued_ns INTEGER,
	started_ns INTEGER,
	ended_ns INTEGER,
	peak_rss_bytes INTEGER,  -- most memory of the process meanwhile
	nodes INTEGER NOT NULL,
	nodes_executed INTEGER NOT NULL,
	nodes_cached INTEGER NOT NULL,
	workflow TEXT,           -- output nodes and a hash over the graph's shape
	trace_id TEXT NOT NULL,  -- 32 hex digits: comfymon trace ID, or Datadog
	death TEXT,              -- comfymon death ID
	version INTEGER NOT NULL -- grows with every change of any job
);
CREATE INDEX job_state ON job(state);
CREATE INDEX job_queued ON job(queued_ns);
CREATE INDEX job_prompt ON job(prompt_id);

-- The same for reading: times as text, durations in seconds, newest first.
CREATE VIEW recent AS SELECT
	datetime(queued_ns / 1000000000, 'unixepoch') AS queued,
	state,
	reason,
	round((started_ns - queued_ns) / 1e9, 3) AS waited_s,
	round((ended_ns - started_ns) / 1e9, 3) AS ran_s,
	node_id,
	node_class,
	round(peak_rss_bytes / 1048576.0) AS peak_mib,
	workflow,
	prompt_id,
	trace_id
FROM job ORDER BY id DESC;

-- upto: the version of the buffer's journal that this file has reached; buffer:
-- which one; boot: of the host, since nothing here waits for the disk.
CREATE TABLE about(
	upto INTEGER NOT NULL,
	buffer INTEGER NOT NULL,
	boot TEXT NOT NULL
);
INSERT INTO about VALUES(0, 0, '');
