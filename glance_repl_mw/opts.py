# SPDX-License-Identifier: Apache-2.0
"""The options of the section ``[replication]``."""

from __future__ import annotations

from collections.abc import Sequence

from keystoneauth1 import loading
from oslo_config import cfg

from glance_repl_mw.seconds import SecondsOpt

GROUP = "replication"

REPLICATION_OPTIONS: Sequence[cfg.Opt] = (
    cfg.ListOpt(
        "enabled_targets",
        default=[],
        sample_default=["site-a:http", "site-b:http"],
        help="The targets that hold replicas, as NAME:DRIVER pairs separated by commas. Each "
        "target has a section [replication:NAME] of its own. A NAME has at most 128 letters, "
        "digits, dots, hyphens and underscores.",
    ),
    cfg.StrOpt(
        "spool_dir",
        default="/var/lib/glance/replication/spool",
        help="Directory that holds the bodies of uploads until every target has them. It is made "
        "with mode 0700 where it is missing, must be on a local file system, and belongs to "
        "the user that glance-api runs as.",
    ),
    cfg.IntOpt(
        "spool_max_bytes",
        default=0,
        min=0,
        help="Most bytes that the spool may hold. 0: as many as the disk allows. An upload that "
        "does not fit is not spooled; the upload itself goes on.",
    ),
    cfg.IntOpt(
        "spool_min_free_bytes",
        default=1024**3,
        min=0,
        help="Bytes that the spool leaves free on its file system.",
    ),
    cfg.StrOpt(
        "connection",
        default="sqlite:////var/lib/glance/replication/replication.sqlite",
        secret=True,
        help="SQLAlchemy URL of the database with the state of the replicas. An SQLite file is "
        "made and migrated by itself; on a MariaDB (mysql+pymysql://) or PostgreSQL "
        "(postgresql+psycopg2://) server, glance-repl-manage db sync does it.",
    ),
    cfg.StrOpt(
        "writer",
        default="embedded",
        choices=[
            ("embedded", "The filter starts one writer process per node and restarts it."),
            ("external", "The service glance-repl-writer runs beside glance-api."),
        ],
        help="Who runs the writer, the process that pushes the spool to the targets.",
    ),
    cfg.StrOpt(
        "coordination_url",
        default="",
        secret=True,
        sample_default="",
        help="URL of the coordinator that the nodes of one database share, as tooz wants it, such "
        "as redis://HOST:6379 or etcd3+http://HOST:2379. Empty where there is only one node: its "
        "locks are files beside the spool.",
    ),
    cfg.StrOpt(
        "deployment_id",
        default="",
        sample_default="",
        help="What marks the collections of the targets as those of this deployment. Empty: an id "
        "that is made once, and kept in database and spool. Nodes that share targets but "
        "no database must have the same, and orphan_interval_seconds = 0. A copy of a whole "
        "deployment must have another one before it is started: it would take the targets of "
        "the original for its own.",
    ),
    cfg.BoolOpt(
        "image_property_targets",
        default=False,
        help="Whether an image's property replication_targets says which targets it goes to: "
        "their names, separated by commas, or all, or none. Glance's property protections rule "
        "who may set the property.",
    ),
    SecondsOpt(
        "take_over_after_seconds",
        default=120,
        min=1,
        whole=True,
        help="Seconds without a change after which the other nodes take over the replicas of a "
        "node whose writer is not alive any more.",
    ),
    cfg.StrOpt(
        "local_target",
        default="",
        sample_default="",
        help="The target at the site of this node. A download of a whole image through this node "
        "also replicates the image to it, if it lacks the image. Empty: downloads fill no target.",
    ),
    cfg.StrOpt(
        "write_concern",
        default="none",
        choices=[
            ("none", "Uploads wait for no replica."),
            ("quorum", "More than half of the replicas that the image is to have."),
            ("all", "Every replica that the image is to have."),
        ],
        help="How many replicas must be active before an uploader gets Glance's answer to "
        "PUT /v2/images/{image_id}/file. The header X-Replication-Status tells how many are. "
        "While a target is down, all waits until the time is over.",
    ),
    SecondsOpt(
        "write_concern_timeout_seconds",
        default=60,
        min=1,
        whole=True,
        help="The longest wait in seconds. Then the uploader gets Glance's answer all the same. "
        "Keep it below the timeouts of clients and of proxies before glance-api.",
    ),
    cfg.IntOpt(
        "write_concern_max_waiting",
        default=2,
        min=1,
        help="How many uploads of one API process wait at once; further ones get their answer "
        "without a wait. One thread of the process never waits, since the writer needs it to add "
        "locations: with one thread, no upload waits.",
    ),
    cfg.IntOpt(
        "writer_nice",
        default=5,
        min=0,
        max=19,
        help="How far the writer gives way to other processes where processors are scarce, as "
        "nice(1) counts. Above 0, uploads come before replication: threads that hash images and "
        "send them to targets have only time for which the API server has no use (SCHED_IDLE).",
    ),
    SecondsOpt(
        "give_way_seconds",
        default=5.0,
        min=0.0,
        help="Most seconds by which admission control defers small uploads while the processors "
        "of the node are busy, so that the writer takes nothing from uploads that come in. A few "
        "go on meanwhile. 0 switches it off, and so does a write_concern.",
    ),
    SecondsOpt(
        "writer_grace_seconds",
        default=30,
        min=0,
        whole=True,
        help="Seconds that a writer which was asked to stop may take to finish the transfers of "
        "uploads that Glance has accepted. The next writer finishes the rest.",
    ),
    SecondsOpt(
        "retry_initial_seconds",
        default=1.0,
        min=0.1,
        help="Seconds from the first failure of a transfer to the next attempt. The wait doubles "
        "with every further failure; up to a fifth is added at random.",
    ),
    SecondsOpt(
        "retry_max_seconds",
        default=300.0,
        min=0.1,
        help="The longest wait in seconds between two attempts; their number has no limit.",
    ),
    SecondsOpt(
        "location_batch_seconds",
        default=0.25,
        min=0.0,
        help="Seconds that the first finished replica of an image waits for the others, so that "
        "their locations are added in one request. No replica waits once all are settled.",
    ),
    cfg.BoolOpt(
        "notifications",
        default=False,
        help="Send the events image.replica.active, .error and .deleted, by the options that "
        "Glance has for its own: [oslo_messaging_notifications] driver, transport_url and topics, "
        "and [DEFAULT] transport_url.",
    ),
)

REST_OPTIONS: Sequence[cfg.Opt] = (
    SecondsOpt(
        "api_wait_max_seconds",
        default=10.0,
        min=0.0,
        help="The longest time in seconds that a request with wait= is kept before it is "
        "answered, whatever it asks for; it holds a thread of the API process meanwhile.",
    ),
    cfg.IntOpt(
        "api_max_waiters",
        default=1,
        min=0,
        help="How many threads of each API process may be held by requests with wait= at once. "
        "Others are answered immediately and told when to ask again. One thread never waits: "
        "with one thread, every request is answered immediately.",
    ),
)

RECONCILER_OPTIONS: Sequence[cfg.Opt] = (
    SecondsOpt(
        "reconcile_interval_seconds",
        default=600.0,
        min=0.1,
        help="Seconds between two comparisons of all images of Glance with all replicas.",
    ),
    cfg.BoolOpt(
        "automatic_backfill",
        default=True,
        help="Replicate images that have no replica at a target yet, such as those that are older "
        "than the target. Without it, glance-repl-manage backfill does so when asked.",
    ),
    cfg.IntOpt(
        "repair_concurrency",
        default=2,
        min=1,
        help="How many images are read at once, from a replica or from Glance, to make replicas "
        "that the spool holds no bytes for. Besides these, each target and Glance may be read "
        "for one image that comes slowly, and each target may get one image that is too large "
        "for the spool.",
    ),
    cfg.IntOpt(
        "repair_least_bytes_per_second",
        default=64 * 1024,
        min=0,
        help="The bytes per second that a replica or Glance must give of an image that is read. "
        "A source that gives less keeps no other image waiting. If it does so for a whole minute "
        "after the first one, the writer stops reading it, and reads the image from the next "
        "replica or Glance, or after a pause. 0: no limit.",
    ),
    cfg.IntOpt(
        "spool_hand_over_percent",
        default=80,
        min=1,
        max=100,
        help="From this share of spool_max_bytes on, or of what the disk allows, the writer "
        "evicts the oldest uploads that wait for a target; that target gets them later from a "
        "replica or from Glance.",
    ),
    cfg.BoolOpt(
        "heal_removed_locations",
        default=True,
        help="Add a location again that someone removed through Glance's API. If false, the "
        "replica's object is deleted and the image gets no new one at that target.",
    ),
    SecondsOpt(
        "delete_delay_seconds",
        min=0,
        whole=True,
        help="Seconds that the replicas of a deleted image are kept. By default Glance's own "
        "scrub_time where it has delayed_delete, so that a restored image keeps its replicas; "
        "else 0.",
    ),
    SecondsOpt(
        "missing_image_delay_seconds",
        default=24 * 3600,
        min=0,
        whole=True,
        help="Seconds that an image must be missing in Glance before its replicas are deleted, "
        "where no DELETE of it was seen on any node. It must also be proven then that Glance "
        "shows the service user other projects' private images. Not less than "
        "delete_delay_seconds. Objects cost little, and what was deleted does not come back. An "
        "upload whose image Glance has put back to queued is kept in the spool as long.",
    ),
    cfg.IntOpt(
        "missing_images_per_hour",
        default=100,
        min=0,
        help="How many images may lose objects in an hour although no DELETE of them was seen "
        "and no operator asked for it: missing images, orphans, removed locations. When there "
        "would be more, none of them loses any until an operator has looked at them with "
        "glance-repl-manage deletions show, and released them with deletions release.",
    ),
    cfg.IntOpt(
        "missing_images_percent",
        default=10,
        min=0,
        max=100,
        help="As missing_images_per_hour, as a share of all replicated images; the lower limit "
        "counts. Five images an hour may go however few there are; none where this is 0.",
    ),
    SecondsOpt(
        "probe_interval_seconds",
        default=10.0,
        min=0.1,
        help="Seconds between two probes of a target.",
    ),
    SecondsOpt(
        "withdraw_after_seconds",
        default=120.0,
        min=0.0,
        help="Seconds that a target may be down before its locations are removed from Glance. "
        "They return, after a new proof, when it is back. May also be given for one target.",
    ),
    SecondsOpt(
        "scrub_interval_seconds",
        default=86400.0,
        min=0.1,
        help="Seconds within which the size of every replica is looked at once.",
    ),
    cfg.IntOpt(
        "scrub_bytes_per_second",
        default=4 * 1024**2,
        min=0,
        help="Bytes per second that are read back from each target to compare the replicas with "
        "the image's hash, those that were compared longest ago first. 0: none.",
    ),
    SecondsOpt(
        "orphan_interval_seconds",
        default=3600.0,
        min=0.0,
        help="Seconds between two searches for orphans, objects at a target that no image "
        "accounts for. An object that two searches have found is deleted. 0 switches off the "
        "search, and the removal of untracked locations.",
    ),
)

HEALTHCHECK_GROUP = "healthcheck"

HEALTHCHECK_OPTIONS: Sequence[cfg.Opt] = (
    cfg.StrOpt(
        "replication_config_file",
        default="",
        sample_default="",
        help="The file that the backend glance_replication reads the options of replication from. "
        "Set it where config_file in the section of the replication filter names a file. Empty: "
        "Glance's own configuration.",
    ),
    SecondsOpt(
        "replication_writer_absence_seconds",
        default=30.0,
        min=0.0,
        help="Seconds for which no writer may run on this node, as between its end and its next "
        "start, before the health check fails.",
    ),
)
"""Those of the backend of oslo.middleware's health check."""

OPTIONS: Sequence[cfg.Opt] = (*REPLICATION_OPTIONS, *REST_OPTIONS, *RECONCILER_OPTIONS)
"""All that are our own in this section."""

KEYSTONE_OPTIONS: Sequence[cfg.Opt] = (
    *loading.get_session_conf_options(),
    *loading.get_adapter_conf_options(),
)
"""Those of keystoneauth that are there whatever the plugin is."""

SECTION_OPTIONS: Sequence[cfg.Opt] = (*OPTIONS, *KEYSTONE_OPTIONS)

# Glance's own, which rule how long a deleted image can be restored, and how images are hashed.
GLANCE_OPTIONS: Sequence[cfg.Opt] = (
    cfg.StrOpt("hashing_algorithm", default="sha512"),
    cfg.BoolOpt("delayed_delete", default=False),
    cfg.IntOpt("scrub_time", default=0, min=0),
)


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register ``[replication]``, the service user's keystoneauth options included."""
    conf.register_opts(OPTIONS, group=GROUP)
    loading.register_session_conf_options(conf, GROUP)
    loading.register_auth_conf_options(conf, GROUP)
    loading.register_adapter_conf_options(conf, GROUP)
    conf.set_default("service_type", "image", group=GROUP)
    # Without it, a Glance that hangs would hold the writer's threads for good.
    conf.set_default("timeout", 60, group=GROUP)


def list_opts() -> Sequence[tuple[str, Sequence[cfg.Opt]]]:
    """For oslo-config-generator."""
    plugin = [
        *loading.get_auth_common_conf_options(),
        *loading.get_auth_plugin_conf_options("password"),
    ]
    return [
        (GROUP, [*OPTIONS, *plugin, *KEYSTONE_OPTIONS]),
        (HEALTHCHECK_GROUP, HEALTHCHECK_OPTIONS),
    ]
