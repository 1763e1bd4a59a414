"""Tables of the catalog.

Times are ISO 8601 texts in UTC; ids of objects are 32 bytes, ids that people see are hex. The
migrations create the same tables; a test holds the two against each other.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

packs = Table(
    "packs",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", String(32), nullable=False),
)

objects = Table(
    "objects",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("pack", ForeignKey("packs.seq"), nullable=False, index=True),
    Column("kind", Integer, nullable=False),
    Column("codec", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("stored", BigInteger, nullable=False),
    Column("raw", BigInteger, nullable=False),
    Column("base", LargeBinary(32)),
    Column("tried", LargeBinary(32)),
    sqlite_with_rowid=False,
)

models = Table(
    "models",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("next_version", BigInteger, nullable=False),
    Column("head", String(64)),
)

runs = Table(
    "runs",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("model", ForeignKey("models.seq"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("model", "name"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("model", ForeignKey("models.seq"), nullable=False),
    Column("run", ForeignKey("runs.seq"), nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("step_source", String(16), nullable=False),
    Column("step_variable", Text),
    Column("format", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("tensors", Integer, nullable=False),
    Column("content", String(64), nullable=False, index=True),
    Column("manifest", LargeBinary(32), nullable=False),
    Column("record", LargeBinary(32), nullable=False),
    Column("meta", Text, nullable=False),
    Column("note", Text),
    Column("builder", Text),
    Column("source", Text, nullable=False),
    Column("added_at", String(32), nullable=False),
    # Whether it is not the current one of its step: another one replaced it, or it was pruned.
    Column("superseded", Boolean, nullable=False),
    Column("example", String(64)),
    Column("pruned_at", String(32)),
    Index("ix_checkpoints_model_seq", "model", "superseded", "seq"),
    Index("ix_checkpoints_run_seq", "run", "superseded", "seq"),
    Index(
        "ux_checkpoints_run_step",
        "run",
        "step",
        unique=True,
        sqlite_where=text("superseded = 0"),
    ),
    Index("ix_checkpoints_pruned", "run", "step", sqlite_where=text("pruned_at IS NOT NULL")),
)

metrics = Table(
    "metrics",
    metadata,
    Column("checkpoint", ForeignKey("checkpoints.seq"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("model", ForeignKey("models.seq"), nullable=False),
    Column("value", Float, nullable=False),
    Index("ix_metrics_model_name_value", "model", "name", "value"),
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    Column("model", ForeignKey("models.seq"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("checkpoint", ForeignKey("checkpoints.seq"), nullable=False, index=True),
    sqlite_with_rowid=False,
)

# Which checkpoints hold a tensor of this dtype, shape and CRC32C; see Tensor.fingerprint.
tensors = Table(
    "tensors",
    metadata,
    Column("fingerprint", BigInteger, primary_key=True),
    Column("checkpoint", ForeignKey("checkpoints.seq"), primary_key=True),
    sqlite_with_rowid=False,
)

versions = Table(
    "versions",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("model", ForeignKey("models.seq"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("checkpoint", ForeignKey("checkpoints.seq"), nullable=False, index=True),
    Column("digest", String(64), nullable=False, index=True),
    Column("manifest", LargeBinary(32), nullable=False),
    Column("record", LargeBinary(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", String(32), nullable=False),
    UniqueConstraint("model", "number"),
)

programs = Table(
    "programs",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, index=True),
    Column("model", ForeignKey("models.seq"), nullable=False),
    Column("structure", String(64), nullable=False),
    Column("builder", String(64), nullable=False),
    Column("linkable", Boolean, nullable=False),
    Column("manifest", LargeBinary(32), nullable=False),
    Column("record", LargeBinary(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("recorded_at", String(32), nullable=False),
    UniqueConstraint("model", "id", "builder"),
    Index("ix_programs_model_structure", "model", "structure"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("version", ForeignKey("versions.seq"), nullable=False, index=True),
    Column("target", Text, nullable=False),
    Column("path", Text, nullable=False, index=True),
    Column("event", String(16), nullable=False),
    Column("at", String(32), nullable=False),
    Column("by", Text, nullable=False),
    Column("message", Text),
    Column("record", LargeBinary(32), nullable=False),
    Index("ix_deployments_target", "target", "seq"),
)

targets = Table(
    "targets",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("base", Text, nullable=False),
    Column("policy", String(16), nullable=False),
    Column("config", Text),
    Column("keep", Integer),
    Column("server", Text),
    Column("created_at", String(32), nullable=False),
)

# The base path of each model of a target; one directory belongs to one of them.
target_models = Table(
    "target_models",
    metadata,
    Column("target", ForeignKey("targets.seq"), primary_key=True),
    Column("model", ForeignKey("models.seq"), primary_key=True),
    Column("path", Text, nullable=False),
    Index("ux_target_models_path", "path", unique=True),
    sqlite_with_rowid=False,
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", ForeignKey("models.seq"), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("version", ForeignKey("versions.seq"), nullable=False, index=True),
    sqlite_with_rowid=False,
)

# What was begun in a base path and not yet written down as done.
intents = Table(
    "intents",
    metadata,
    Column("base", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("at", String(32), nullable=False),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("event", String(16), nullable=False),
    Column("model", ForeignKey("models.seq"), nullable=False, index=True),
    Column("checkpoint", ForeignKey("checkpoints.seq"), index=True),
    Column("version", ForeignKey("versions.seq"), index=True),
    Column("at", String(32), nullable=False),
    Column("by", Text, nullable=False),
    Column("path", Text),
    Column("message", Text),
)

# Which checkpoints an event of the kind "pruned" is about.
prunings = Table(
    "prunings",
    metadata,
    Column("event", ForeignKey("events.seq"), primary_key=True),
    Column("checkpoint", ForeignKey("checkpoints.seq"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)

damaged = Table(
    "damaged",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("found_at", String(32), nullable=False),
    Column("detail", Text, nullable=False),
    sqlite_with_rowid=False,
)

# One row: which entry of the ledger's file was written last, and where in the file it stands.
ledger = Table(
    "ledger",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
)
