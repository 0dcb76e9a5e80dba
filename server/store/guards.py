"""Triggers by which the database itself refuses to change the audit log, or to take anything out of it."""

from __future__ import annotations

from sqlalchemy import Connection

_WORDS = "the audit log is only ever added to"

_REFUSE = f"BEGIN SELECT RAISE(ABORT, '{_WORDS}'); END"
_AGAIN = "WHEN EXISTS (SELECT 1 FROM audit WHERE seq = NEW.seq)"  # REPLACE deletes, and tells no trigger of it
_SQLITE = (
    f"CREATE TRIGGER IF NOT EXISTS audit_unchanged BEFORE UPDATE ON audit {_REFUSE}",
    f"CREATE TRIGGER IF NOT EXISTS audit_kept BEFORE DELETE ON audit {_REFUSE}",
    f"CREATE TRIGGER IF NOT EXISTS audit_not_replaced BEFORE INSERT ON audit {_AGAIN} {_REFUSE}",
)
_POSTGRESQL = (
    "CREATE OR REPLACE FUNCTION crossplant_audit_kept() RETURNS trigger LANGUAGE plpgsql AS "
    f"$$ BEGIN RAISE EXCEPTION '{_WORDS}'; END $$",
    "DROP TRIGGER IF EXISTS audit_kept ON audit",
    "CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION crossplant_audit_kept()",
    "DROP TRIGGER IF EXISTS audit_not_emptied ON audit",
    "CREATE TRIGGER audit_not_emptied BEFORE TRUNCATE ON audit FOR EACH STATEMENT "
    "EXECUTE FUNCTION crossplant_audit_kept()",
)


def guard_audit(connection: Connection) -> None:
    """Set the triggers, in the connection's transaction; other databases than these two have none."""
    statements = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}.get(connection.dialect.name, ())
    for statement in statements:
        connection.exec_driver_sql(statement)
