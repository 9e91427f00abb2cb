"""What the queue asks of the job database, each as one operation on a connection."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from engine.api.events import NodeRecord
from engine.run.event_codec import decode_event, decode_record, encode_event, encode_record
from engine.run.job import HISTORY, Job, JobFilter, JobState, Lease, Outcome, Page, Submission

_IN_HISTORY = f"state IN ({', '.join(repr(s) for s in HISTORY)})"
_COLUMNS = (
    "id, number, state, client_id, created_ms, started_ms, ended_ms, attempt, prompt, extra_data, "
    "outputs, results, owners, records, refusals, events"
)
_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The JSON texts of a job that a worker needs."""

    prompt: str
    extra_data: str
    outputs: str

    @property
    def size(self) -> int:
        return len(self.prompt) + len(self.extra_data) + len(self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """A job to add."""

    id: str
    number: float
    client_id: str | None
    idempotency_key: str | None
    body_digest: str
    created_ms: int
    texts: Texts
    refusals: str
    records: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The job of that id or key: the new one, or the one that was there."""

    id: str
    seq: int
    number: float
    body_digest: str
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRow:
    """A waiting job as it is found at the start."""

    id: str
    seq: int
    number: float
    client_id: str | None
    attempt: int
    progress: int
    lease_no: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The state of the queue at the start."""

    waiting: tuple[WaitingRow, ...]
    next_number: int
    is_paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRow:
    """The end of a job as JSON texts, made before the writing thread needs them."""

    id: str
    token: int
    state: str
    started_ms: int
    ended_ms: int
    results: str
    owners: str
    records: str
    events: str


def texts_of(submission: Submission) -> Texts:
    return Texts(
        prompt=text_of(submission.prompt),
        extra_data=text_of(submission.extra_data),
        outputs=text_of(list(submission.outputs)),
    )


def records_text(records: Mapping[str, NodeRecord]) -> str:
    return text_of({k: encode_record(r) for k, r in records.items()})


def outcome_row(lease: Lease, outcome: Outcome) -> OutcomeRow:
    return OutcomeRow(
        id=lease.job_id,
        token=lease.token,
        state=outcome.state,
        started_ms=outcome.started_ms,
        ended_ms=outcome.ended_ms,
        results=text_of(outcome.results),
        owners=text_of(outcome.owners),
        records=records_text(outcome.records),
        events=text_of([encode_event(e) for e in outcome.events]),
    )


def text_of(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Compact JSON."""
    return _ENCODER.encode(value) if value else "[]" if isinstance(value, Sequence) else "{}"


# Writing ------------------------------------------------------------------------------------------


def restore(connection: sqlite3.Connection) -> Restored:
    """The jobs that wait and where the numbers go on."""
    rows = connection.execute(
        "SELECT id, seq, number, client_id, attempt, progress, lease_no FROM jobs "
        "WHERE state = 'pending' ORDER BY number, seq"
    ).fetchall()
    names = ("id", "seq", "number", "client_id", "attempt", "progress", "lease_no")
    highest = connection.execute("SELECT max(abs(number)) FROM jobs WHERE abs(number) < 1e15")
    paused = connection.execute("SELECT value FROM settings WHERE name = 'is_paused'").fetchone()
    return Restored(
        waiting=tuple(WaitingRow(**dict(zip(names, row))) for row in rows),
        next_number=int(highest.fetchone()[0] or 0) + 1,
        is_paused=paused is not None and paused[0] == "1",
    )


def add(connection: sqlite3.Connection, row: NewRow) -> Added:
    """Add a job unless its id or key is there."""
    cursor = connection.execute(
        "INSERT INTO jobs (id, number, state, client_id, idempotency_key, body_digest, created_ms, "
        "outputs, prompt, extra_data, refusals, records) "
        "VALUES (?, ?, 'pending', ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            row.id,
            row.number,
            row.client_id,
            row.idempotency_key,
            row.body_digest,
            row.created_ms,
            row.texts.outputs,
            row.texts.prompt,
            row.texts.extra_data,
            row.refusals,
            row.records,
        ),
    )
    if cursor.rowcount:
        seq = cursor.lastrowid or 0
        return Added(
            id=row.id, seq=seq, number=row.number, body_digest=row.body_digest, is_new=True
        )
    found = connection.execute(
        "SELECT id, seq, number, body_digest FROM jobs WHERE id = ? OR idempotency_key = ? "
        "ORDER BY id = ? DESC",
        (row.id, row.idempotency_key, row.id),
    ).fetchone()
    return Added(id=found[0], seq=found[1], number=found[2], body_digest=found[3], is_new=False)


def finish(connection: sqlite3.Connection, row: OutcomeRow) -> bool:
    """End a job unless a newer lease was noted; records of refused outputs stay."""
    cursor = connection.execute(
        "UPDATE jobs SET state = ?, started_ms = ?, ended_ms = ?, results = ?, owners = ?, "
        "records = CASE records WHEN '{}' THEN ? ELSE json_patch(records, ?) END, events = ?, "
        "ended_seq = (SELECT coalesce(max(ended_seq), 0) + 1 FROM jobs INDEXED BY jobs_history "
        f"WHERE {_IN_HISTORY}) WHERE id = ? AND lease_no <= ? AND state = 'pending'",
        (
            row.state,
            row.started_ms,
            row.ended_ms,
            row.results,
            row.owners,
            row.records,
            row.records,
            row.events,
            row.id,
            row.token,
        ),
    )
    return cursor.rowcount == 1


def release(
    connection: sqlite3.Connection, job_id: str, lease_no: int, attempt: int, progress: int
) -> None:
    """Note that a lease ended without an outcome."""
    connection.execute(
        "UPDATE jobs SET lease_no = ?, attempt = ?, progress = ? WHERE id = ?",
        (lease_no, attempt, progress, job_id),
    )


def renumber(connection: sqlite3.Connection, numbers: Mapping[str, float]) -> None:
    connection.executemany(
        "UPDATE jobs SET number = ? WHERE id = ?", [(n, i) for i, n in numbers.items()]
    )


def cancel(connection: sqlite3.Connection, job_ids: Sequence[str], ended_ms: int) -> None:
    connection.executemany(
        "UPDATE jobs SET state = 'cancelled', ended_ms = ? WHERE id = ? AND state = 'pending'",
        [(ended_ms, i) for i in job_ids],
    )


def delete_ended(connection: sqlite3.Connection, job_ids: Sequence[str] | None) -> tuple[str, ...]:
    """Delete ended jobs; gives their ids."""
    if job_ids is None:
        rows = connection.execute("DELETE FROM jobs WHERE state != 'pending' RETURNING id")
        return tuple(row[0] for row in rows.fetchall())
    gone: list[str] = []
    for job_id in job_ids:
        cursor = connection.execute(
            "DELETE FROM jobs WHERE id = ? AND state != 'pending'", (job_id,)
        )
        if cursor.rowcount:
            gone.append(job_id)
    return tuple(gone)


def set_paused(connection: sqlite3.Connection, *, is_paused: bool) -> None:
    connection.execute(
        "INSERT INTO settings VALUES ('is_paused', ?) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (str(int(is_paused)),),
    )


# Reading ------------------------------------------------------------------------------------------


def read_texts(connection: sqlite3.Connection, job_id: str) -> Texts:
    row = connection.execute(
        "SELECT prompt, extra_data, outputs FROM jobs WHERE id = ?", (job_id,)
    ).fetchone()
    return Texts(prompt=row[0], extra_data=row[1], outputs=row[2])


def get_many(
    connection: sqlite3.Connection, job_ids: Sequence[str], running: set[str]
) -> tuple[Job, ...]:
    """Those of the jobs that exist, in the given order."""
    query = f"SELECT {_COLUMNS} FROM jobs WHERE id = ?"
    rows = (connection.execute(query, (i,)).fetchone() for i in job_ids)
    return tuple(_job(row, running) for row in rows if row is not None)


def history(
    connection: sqlite3.Connection, max_items: int | None, offset: int | None
) -> tuple[Job, ...]:
    """Ended jobs, oldest first; without an offset the newest."""
    limit = -1 if max_items is None else max(max_items, 0)
    is_newest = offset is None and max_items is not None
    order = "DESC" if is_newest else "ASC"
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM jobs INDEXED BY jobs_history WHERE {_IN_HISTORY} "
        f"ORDER BY ended_seq {order} LIMIT ? OFFSET ?",
        (limit, max(offset or 0, 0)),
    ).fetchall()
    jobs = tuple(_job(row, set()) for row in rows)
    return jobs[::-1] if is_newest else jobs


def list_jobs(connection: sqlite3.Connection, wanted: JobFilter, running: set[str]) -> Page:
    """A page of jobs. A running job is `pending` in the table."""
    where, values = _where(wanted.states, running)
    total = connection.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()[0]
    by = "ended_ms - started_ms, seq" if wanted.sort == "duration" else "seq"
    order = by.replace(",", " DESC,") + " DESC" if wanted.descending else by
    limit = -1 if wanted.limit is None else wanted.limit
    rows = connection.execute(
        f"WITH page AS (SELECT seq AS s FROM jobs WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?) "
        f"SELECT {_COLUMNS} FROM page JOIN jobs ON seq = s ORDER BY {order}",
        (*values, limit, wanted.offset),
    ).fetchall()
    return Page(jobs=tuple(_job(row, running) for row in rows), total=total)


def count_ended(connection: sqlite3.Connection) -> dict[str, int]:
    rows = connection.execute(
        "SELECT state, count(*) FROM jobs WHERE state != 'pending' GROUP BY state"
    ).fetchall()
    return dict(rows)


def _where(states: Sequence[JobState], running: set[str]) -> tuple[str, tuple[Any, ...]]:
    if not states:
        return "1", ()
    ids = tuple(running)
    marks = ", ".join("?" * len(ids))
    parts: list[str] = []
    values: list[Any] = []
    for state in states:
        if state == "running":
            parts.append(f"(state = 'pending' AND id IN ({marks}))")
            values.extend(ids)
        elif state == "pending":
            parts.append(f"(state = 'pending' AND id NOT IN ({marks}))")
            values.extend(ids)
        else:
            parts.append("state = ?")
            values.append(state)
    return " OR ".join(parts), tuple(values)


def _job(row: Sequence[Any], running: set[str]) -> Job:
    records = cast(dict[str, list[Any]], json.loads(row[13]))
    events = cast(list[list[Any]], json.loads(row[15]))
    return Job(
        id=row[0],
        number=row[1],
        state="running" if row[0] in running else row[2],
        client_id=row[3],
        created_ms=row[4],
        started_ms=row[5],
        ended_ms=row[6],
        attempt=row[7],
        prompt=json.loads(row[8]),
        extra_data=json.loads(row[9]),
        outputs=tuple(json.loads(row[10])),
        results=json.loads(row[11]),
        owners=json.loads(row[12]),
        records={k: decode_record(v) for k, v in records.items()},
        refusals=json.loads(row[14]),
        events=tuple(decode_event(e) for e in events),
    )
