"""Plans as identities: looking them up, storing a new one inert, and stepping aside for a fresh one.

A new plan is stored whole in one transaction, one statement per table, and stays `submitted` until the
scheduler takes it; every later change is the scheduler's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import psycopg
from psycopg.errors import ProgramLimitExceeded
from sqlalchemy import ColumnElement, Table, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from orchestrator.core.words import PlanState
from orchestrator.errors import NotFound, PlanError
from orchestrator.store import tables
from orchestrator.store.bulk import Columns, insert_columns, take_ids
from orchestrator.store.engine import Connection
from orchestrator.store.plan_rows import (
    NewPlan,
    decision_columns,
    dependency_columns,
    file_columns,
    state_columns,
    task_columns,
)
from orchestrator.text import id_in, storable

_p = tables.plans.c


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPlan:
    """A stored plan, as far as its identity goes. `is_new`: this transaction stored it."""

    id: int
    name: str
    digest: str
    state: str
    backend: str
    until_key: str
    tasks_total: int
    is_new: bool = False


async def find_plan(connection: Connection, name: str) -> KnownPlan | None:
    """Return the plan of that name, or None."""
    return await _find(connection, _p.name == storable(name))


async def require_plan(connection: Connection, ref: str) -> KnownPlan:
    """Return the plan whose id, or else whose name, is `ref`.

    Raises:
        NotFound: there is none.
    """
    plan_id = id_in(ref)
    found = await _find(connection, _p.id == plan_id) if plan_id is not None else None
    found = found or await find_plan(connection, ref)
    if found is None:
        raise NotFound(f"There is no plan {ref!r}.", remedy="`orchestrator status` lists the plans.")
    return found


async def insert_plan(connection: Connection, new: NewPlan, *, tenant_id: str) -> KnownPlan | None:
    """Store a plan, inert, and return it; None, and nothing stored, if the name is taken.

    Raises:
        PlanError: PostgreSQL cannot hold one of its values, such as a NUL character.
    """
    try:
        plan_id = await _insert_plan(connection, new, tenant_id=tenant_id)
    except UnicodeError as error:
        raise _not_storable(str(error)) from error
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.DataError | ProgramLimitExceeded):
            raise _not_storable(str(error.orig)) from error
        raise
    if plan_id is None:
        return None
    return KnownPlan(
        id=plan_id,
        name=new.name,
        digest=new.digest,
        state=PlanState.SUBMITTED,
        backend=new.backend,
        until_key=new.until_key,
        tasks_total=new.tasks_total,
        is_new=True,
    )


async def rename_aside(connection: Connection, known: KnownPlan) -> str:
    """Free the name of a plan by renaming it `name@N`, N being the first free number; return the new name."""
    taken = select(_p.name).where(func.starts_with(_p.name, f"{known.name}@"))
    names = set((await connection.execute(taken)).scalars())
    aside = next(name for n in range(1, len(names) + 2) if (name := f"{known.name}@{n}") not in names)
    await connection.execute(update(tables.plans).where(_p.id == known.id).values(name=aside))
    return aside


async def _insert_plan(connection: Connection, new: NewPlan, *, tenant_id: str) -> int | None:
    plan_id = await _insert_plan_row(connection, new, tenant_id=tenant_id)
    if plan_id is None:
        return None
    keys = [task.key for task in new.plan.tasks]
    ids = dict(zip(keys, await take_ids(connection, tables.tasks, len(keys)), strict=True))
    rows: Sequence[tuple[Table, Columns]] = (
        (tables.plan_files, file_columns(new, plan_id=plan_id)),
        (tables.tasks, task_columns(new, plan_id=plan_id, ids=ids)),
        (tables.task_states, state_columns(new, plan_id=plan_id, ids=ids)),
        (tables.task_dependencies, dependency_columns(new, plan_id=plan_id, ids=ids)),
        (tables.routing_decisions, decision_columns(new, ids=ids)),
    )
    for table, columns in rows:
        count = len(next(iter(columns.values())))
        await insert_columns(connection, table, {"tenant_id": [tenant_id] * count, **columns})
    return plan_id


async def _insert_plan_row(connection: Connection, new: NewPlan, *, tenant_id: str) -> int | None:
    values = {
        "tenant_id": tenant_id,
        "name": new.name,
        "title": new.plan.title,
        "format": new.plan.format,
        "source_digest": new.digest,
        "workdir": new.workdir,
        "repository": asdict(new.repository) if new.repository else None,
        "backend": new.backend,
        # dates of the front matter become text
        "meta": json.loads(json.dumps(dict(new.plan.meta), default=str)),
        "tasks_total": new.tasks_total,
        "budget_micros": new.budget_micros,
        "until_key": new.until_key,
    }
    statement = (
        insert(tables.plans)
        .values(values)
        .on_conflict_do_nothing(index_elements=["tenant_id", "name"])
        .returning(_p.id)
    )
    plan_id: int | None = (await connection.execute(statement)).scalar()
    return plan_id


def _not_storable(reason: str) -> PlanError:
    return PlanError(
        f"The plan holds a value that cannot be stored: {reason.strip().partition(chr(10))[0].rstrip('.')}.",
        remedy="Remove control characters, half surrogate pairs, and names or numbers out of all proportion.",
    )


async def _find(connection: Connection, condition: ColumnElement[bool]) -> KnownPlan | None:
    identity = (_p.id, _p.name, _p.source_digest.label("digest"), _p.state)
    query = select(*identity, _p.backend, _p.until_key, _p.tasks_total).where(condition)
    row = (await connection.execute(query)).mappings().first()
    return KnownPlan(**row) if row else None
