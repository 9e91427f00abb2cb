"""The tables of the job database and how older versions become the newest."""

import sqlite3

from engine.api.errors import LaunchError

# One entry per version; never change one that was released. `ended_seq` orders the history,
# `lease_no` is the fencing token, `progress` the nodes found on disk at the last attempt's start.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        number REAL NOT NULL,
        state TEXT NOT NULL,
        client_id TEXT,
        idempotency_key TEXT UNIQUE,
        body_digest TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        started_ms INTEGER,
        ended_ms INTEGER,
        ended_seq INTEGER,
        attempt INTEGER NOT NULL DEFAULT 0,
        progress INTEGER NOT NULL DEFAULT 0,
        lease_no INTEGER NOT NULL DEFAULT 0,
        outputs TEXT NOT NULL,
        prompt TEXT NOT NULL,
        extra_data TEXT NOT NULL,
        refusals TEXT NOT NULL,
        records TEXT NOT NULL DEFAULT '{}',
        results TEXT NOT NULL DEFAULT '{}',
        owners TEXT NOT NULL DEFAULT '{}',
        events TEXT NOT NULL DEFAULT '[]'
    );
    CREATE INDEX jobs_waiting ON jobs (number, seq) WHERE state = 'pending';
    CREATE INDEX jobs_history ON jobs (ended_seq)
        WHERE state IN ('success', 'error', 'interrupted');
    CREATE INDEX jobs_states ON jobs (state, seq);
    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
)


def prepare(connection: sqlite3.Connection) -> None:
    """Set a connection up for safe writing and bring the tables to the newest version.

    Raises: LaunchError for a database of a newer Weft.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA busy_timeout = 10000")
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise LaunchError(
            f"The job database has version {version}; this Weft knows {len(MIGRATIONS)}.",
            hint="It was written by a newer Weft: use that one, or another --base-directory.",
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN;{script};PRAGMA user_version = {number};COMMIT;")
