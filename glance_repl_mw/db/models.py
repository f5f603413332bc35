# SPDX-License-Identifier: Apache-2.0
"""The tables."""

from __future__ import annotations

import datetime

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import mysql

from glance_repl_mw.model import Priority

Timestamp = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
Identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# As SQLite and PostgreSQL: any character, and no two strings equal that are not the same.
_MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_LONGEST_TEXT = 4000


class Explanation(sa.types.TypeDecorator[str]):
    """Text from anywhere, such as a server's answer: cut, and without what a database refuses."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        if value is None:
            return None
        text = value[:_LONGEST_TEXT].replace("\0", "?")
        return text.encode(errors="replace").decode()


class Base(orm.DeclarativeBase):
    """The declarative base of all tables."""


class ReplicaRow(Base):
    """What is known of the bits of one upload at one target."""

    __tablename__ = "replicas"
    __table_args__ = (
        sa.UniqueConstraint("upload_id", "target", name="uq_replicas_upload_id_target"),
        sa.Index("ix_replicas_image_id_target", "image_id", "target"),
        sa.Index("ix_replicas_status_next_attempt_at", "status", "next_attempt_at"),
        sa.Index("ix_replicas_status_id", "status", "id"),
        sa.Index("ix_replicas_target_id", "target", "id"),
        sa.Index("ix_replicas_target_status_id", "target", "status", "id"),
        sa.Index("ix_replicas_target_status_verified_at", "target", "status", "verified_at"),
        sa.Index("ix_replicas_node", "node"),
        _MYSQL,
    )

    id: orm.Mapped[int] = orm.mapped_column(Identifier, primary_key=True, autoincrement=True)
    image_id: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    target: orm.Mapped[str] = orm.mapped_column(sa.String(255))
    upload_id: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    status: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    object_name: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    size: orm.Mapped[int | None] = orm.mapped_column(sa.BigInteger)
    bytes_sent: orm.Mapped[int] = orm.mapped_column(sa.BigInteger, default=0)
    location_url: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    checksum: orm.Mapped[str | None] = orm.mapped_column(sa.String(32))
    attempts: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0)
    error: orm.Mapped[str | None] = orm.mapped_column(Explanation)
    next_attempt_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Timestamp)
    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Timestamp)
    updated_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Timestamp)
    priority: orm.Mapped[int] = orm.mapped_column(
        sa.SmallInteger, default=Priority.REPAIR, server_default="2"
    )
    withheld: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )
    verified_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Timestamp)
    read_back_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Timestamp)
    node: orm.Mapped[str | None] = orm.mapped_column(sa.String(64))
    former_objects: orm.Mapped[str | None] = orm.mapped_column(sa.Text)
    cause: orm.Mapped[str | None] = orm.mapped_column(sa.String(32))
    version: orm.Mapped[int] = orm.mapped_column(sa.Integer, default=0, server_default="0")


class TargetWishRow(Base):
    """What an operator asked for a target."""

    __tablename__ = "target_wishes"
    __table_args__ = _MYSQL

    target: orm.Mapped[str] = orm.mapped_column(sa.String(255), primary_key=True)
    wish: orm.Mapped[str] = orm.mapped_column(sa.String(16))
    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Timestamp)


class TargetStateRow(Base):
    """What the writer of a node has last seen of a target."""

    __tablename__ = "target_states"
    __table_args__ = _MYSQL

    node: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)
    target: orm.Mapped[str] = orm.mapped_column(sa.String(255), primary_key=True)
    is_up: orm.Mapped[bool] = orm.mapped_column(sa.Boolean)
    error: orm.Mapped[str | None] = orm.mapped_column(Explanation)
    seen_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Timestamp)


class AbsenceRow(Base):
    """An image that Glance does not show, or was seen to delete, with replicas or without.

    ``was_deleted``: Glance was seen to delete it. ``is_released``: an operator says it is gone.
    """

    __tablename__ = "image_absences"
    __table_args__ = (sa.Index("ix_image_absences_since", "since"), _MYSQL)

    image_id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True)
    was_deleted: orm.Mapped[bool] = orm.mapped_column(sa.Boolean)
    since: orm.Mapped[datetime.datetime] = orm.mapped_column(Timestamp)
    is_released: orm.Mapped[bool] = orm.mapped_column(
        sa.Boolean, default=False, server_default=sa.false()
    )


class WitnessRow(Base):
    """An image by which the Glance of this deployment is known."""

    __tablename__ = "witnesses"
    __table_args__ = _MYSQL

    image_id: orm.Mapped[str] = orm.mapped_column(sa.String(36), primary_key=True)
    owner: orm.Mapped[str | None] = orm.mapped_column(sa.String(255))
    created_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Timestamp)


class DeletionRow(Base):
    """An image of which objects are deleted although nobody was seen to ask for it."""

    __tablename__ = "deletions"
    __table_args__ = (sa.Index("ix_deletions_decided_at", "decided_at"), _MYSQL)

    id: orm.Mapped[int] = orm.mapped_column(Identifier, primary_key=True, autoincrement=True)
    image_id: orm.Mapped[str] = orm.mapped_column(sa.String(36))
    cause: orm.Mapped[str] = orm.mapped_column(sa.String(32))
    decided_at: orm.Mapped[datetime.datetime] = orm.mapped_column(Timestamp)


class BreakerRow(Base):
    """The state of a circuit breaker; there is one, of deletions."""

    __tablename__ = "circuit_breaker"
    __table_args__ = _MYSQL

    name: orm.Mapped[str] = orm.mapped_column(sa.String(16), primary_key=True)
    tripped_at: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Timestamp)
    why: orm.Mapped[str | None] = orm.mapped_column(Explanation)
    counts_since: orm.Mapped[datetime.datetime | None] = orm.mapped_column(Timestamp)


class FactRow(Base):
    """What is known of the deployment as a whole, by name."""

    __tablename__ = "deployment_facts"
    __table_args__ = _MYSQL

    name: orm.Mapped[str] = orm.mapped_column(sa.String(255), primary_key=True)
    value: orm.Mapped[str] = orm.mapped_column(sa.Text)
