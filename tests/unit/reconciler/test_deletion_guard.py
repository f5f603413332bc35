"""How long the replicas of a deleted image are kept."""

import datetime

from oslo_config import cfg
from oslo_utils import timeutils

from glance_repl_mw import opts
from glance_repl_mw.reconciler.deletion_guard import delete_delay


def test_a_scrub_time_of_glance_that_no_date_reaches_is_one_that_never_ends(tmp_path):
    (tmp_path / "conf").write_text("[DEFAULT]\ndelayed_delete = True\nscrub_time = 99999999999\n")
    conf = cfg.ConfigOpts()
    conf.register_opts(opts.GLANCE_OPTIONS)
    opts.register_opts(conf)
    conf(["--config-file", str(tmp_path / "conf")], default_config_dirs=[])
    assert delete_delay(conf) > datetime.timedelta(days=3000)
    assert timeutils.utcnow() + delete_delay(conf)
