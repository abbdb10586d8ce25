-- SPDX-License-Identifier: MIT OR Apache-2.0
-- The journal of keepahead, format 2. Read it with sqlite3; begin with `SELECT * FROM trials_story;` or `SELECT * FROM outstanding;`.
-- mono_ns: monotonic clock of that boot. utc: ISO 8601. seq: one count over the inputs and records of a run.

-- One start of the agent. ended_utc stays NULL where it was killed.
CREATE TABLE run (
  run INTEGER PRIMARY KEY,
  started_utc TEXT NOT NULL,
  ended_utc TEXT,
  boot_id TEXT NOT NULL,
  pid INTEGER NOT NULL,
  version TEXT NOT NULL,
  kernel TEXT NOT NULL,
  settings TEXT NOT NULL
);

-- One write to a device's read_ahead_kb: committed as 'intended' before it, settled after it.
CREATE TABLE change (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  mono_ns INTEGER NOT NULL,
  utc TEXT NOT NULL,
  identity TEXT NOT NULL,
  bdi TEXT NOT NULL,
  label TEXT NOT NULL,
  from_kib INTEGER NOT NULL,
  to_kib INTEGER NOT NULL,
  why TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'intended',
  read_back_kib INTEGER,
  files TEXT,
  error TEXT,
  settled_utc TEXT
);

-- How a device stopped being ours: restored, kept_on_exit, hands_off, kernel_raised, gone.
CREATE TABLE release (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  utc TEXT NOT NULL,
  identity TEXT NOT NULL,
  bdi TEXT NOT NULL,
  label TEXT NOT NULL,
  original_kib INTEGER NOT NULL,
  last_written_kib INTEGER NOT NULL,
  how TEXT NOT NULL
);

-- The values to put back, sealed with a checksum: the same text as in restore.json.
CREATE TABLE restore (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  body TEXT NOT NULL
);

-- What was seen and decided, and why.
CREATE TABLE record (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  mono_ns INTEGER NOT NULL,
  utc TEXT NOT NULL,
  bdi TEXT NOT NULL,
  label TEXT NOT NULL,
  kind TEXT NOT NULL,
  trial INTEGER,
  body TEXT NOT NULL
);
CREATE INDEX record_order ON record (run, seq);
CREATE INDEX record_trial ON record (run, trial) WHERE trial IS NOT NULL;

-- The tape for `keepahead replay`: a segment is a checkpoint of the state and the inputs after it. contiguous = 0: inputs before it
-- were lost. whole = 0: it is being deleted by retention.
CREATE TABLE segment (
  id INTEGER PRIMARY KEY,
  run INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  mono_ns INTEGER NOT NULL,
  utc TEXT NOT NULL,
  contiguous INTEGER NOT NULL,
  whole INTEGER NOT NULL DEFAULT 1,
  bytes INTEGER NOT NULL,
  state TEXT NOT NULL
);
CREATE TABLE input (
  segment INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (segment, seq)
);

-- Devices with a value of ours on them now.
CREATE VIEW outstanding AS
SELECT json_extract(d.value, '$.label') AS device,
       json_extract(d.value, '$.bdi') AS bdi,
       json_extract(d.value, '$.original') AS original_kib,
       json_extract(d.value, '$.last_written') AS last_written_kib,
       json_extract(d.value, '$.since') AS since_utc,
       json_extract(d.value, '$.run') AS run,
       json_extract(d.value, '$.identity') AS identity
FROM restore, json_each(restore.body, '$.state.devices') AS d;

-- Each trial in one row, oldest first.
CREATE VIEW trials_story AS
SELECT s.run, s.trial, s.utc AS started_utc, e.utc AS ended_utc, s.label AS device, s.bdi,
       json_extract(s.body, '$.from') AS from_kib,
       json_extract(s.body, '$.to') AS to_kib,
       json_extract(s.body, '$.proposal.pattern') AS pattern,
       json_extract(s.body, '$.proposal.confidence') AS confidence,
       json_extract(s.body, '$.proposal.reason') AS proposed_because,
       json_extract(s.body, '$.evidence.hit_ratio') AS hit_ratio,
       json_extract(s.body, '$.evidence.waste_mib_per_s') AS waste_mib_per_s,
       json_extract(s.body, '$.evidence.stall_ms_per_mib') AS stall_ms_per_mib,
       (SELECT count(*) FROM record b WHERE b.run = s.run AND b.trial = s.trial AND b.bdi = s.bdi AND b.kind = 'block_ended') AS blocks,
       json_extract(e.body, '$.verdict.outcome') AS outcome,
       json_extract(e.body, '$.verdict.reason') AS verdict_because,
       json_extract(e.body, '$.verdict.stall_ratio.low') AS stall_ratio_low,
       json_extract(e.body, '$.verdict.stall_ratio.mean') AS stall_ratio,
       json_extract(e.body, '$.verdict.stall_ratio.high') AS stall_ratio_high,
       json_extract(e.body, '$.verdict.hit_change.mean') AS hit_change
FROM record s
LEFT JOIN record e ON e.run = s.run AND e.trial = s.trial AND e.bdi = s.bdi AND e.kind = 'trial_ended'
WHERE s.kind = 'trial_started'
ORDER BY s.run, s.seq;
