
-- What trials have taught of a pattern on a device, for the next run to begin with. proven_kib: the value that a trial has last kept.
CREATE TABLE known (
  identity TEXT NOT NULL,
  pattern TEXT NOT NULL,
  utc TEXT NOT NULL,
  proven_kib INTEGER,
  trials INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (identity, pattern)
);
