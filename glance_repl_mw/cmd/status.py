# SPDX-License-Identifier: Apache-2.0
"""``glance-repl-status``: whether this release can take over from the one that runs."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import sys
from collections.abc import Callable, Iterator

from oslo_config import cfg
from oslo_upgradecheck import common_checks, upgradecheck

from glance_repl_mw import exceptions, substitution
from glance_repl_mw.checks import deployment, secrecy, upgrade
from glance_repl_mw.checks import targets as target_checks
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, Level
from glance_repl_mw.checks.report import guarded
from glance_repl_mw.foreign_text import printable
from glance_repl_mw.targets.base import Target

_PROGRAM = "glance-repl-status"
# As oslo.upgradecheck has it, so that it is not taken for the result of a check.
_FAILED = 255
_CODES = {
    Level.WARNING: upgradecheck.Code.WARNING,
    Level.ERROR: upgradecheck.Code.FAILURE,
}


class Checks(upgradecheck.UpgradeCommands):
    """The checks of ``upgrade check``, each of which asks this node alone.

    :ivar deployment: what they look at, which is set before they run
    """

    deployment: Deployment

    def _check_schema(self) -> upgradecheck.Result:
        return self._result("database", upgrade.check_schema)

    def _check_options(self) -> upgradecheck.Result:
        return self._result("options", upgrade.check_options)

    def _check_targets(self) -> upgradecheck.Result:
        return self._result("targets", upgrade.check_targets)

    def _check_spool(self) -> upgradecheck.Result:
        return self._result("spool", upgrade.check_spool)

    def _check_policy_file(self) -> upgradecheck.Result:
        return common_checks.check_policy_json(self, self.deployment.replication)

    def _result(
        self, area: str, check: Callable[[Deployment], Iterator[Finding]]
    ) -> upgradecheck.Result:
        """The worst of the findings, with all that are not well."""
        found = guarded(area, lambda: check(self.deployment))
        wrong = [each for each in found if each.level in _CODES]
        if not wrong:
            return upgradecheck.Result(upgradecheck.Code.SUCCESS)
        details = ". ".join(secrecy.redact(str(each), self._secrets()) for each in wrong)
        return upgradecheck.Result(max(_CODES[each.level] for each in wrong), details)

    def _secrets(self) -> set[str]:
        targets: dict[str, Target] = {}
        with contextlib.suppress(cfg.Error):
            targets, _ = target_checks.load(self.deployment.replication)
        return secrecy.secrets_of(self.deployment.replication, targets.values())

    _upgrade_checks = (
        ("Database schema", _check_schema),
        ("Options", _check_options),
        ("Targets", _check_targets),
        ("Spool", _check_spool),
        ("Policy file", _check_policy_file),
    )


def main() -> None:
    """The console script."""
    sys.exit(status(sys.argv[1:]))


def status(arguments: list[str]) -> int:
    """Run the checks and print their results.

    Returns 0 where nothing stands in the way, 1 for warnings, 2 for failures; 255, with one line
    on stderr, where the configuration cannot be read.
    """
    # What libraries log is no part of the answer.
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(True)
    conf, checks = cfg.ConfigOpts(), Checks()
    upgradecheck.register_cli_options(conf, checks)
    try:
        conf(
            arguments,
            project="glance",
            prog=_PROGRAM,
            version=importlib.metadata.version("glance-repl-mw"),
            description="Tells whether this release can take over on this node.",
            default_config_files=deployment.default_config_files(),
            default_config_dirs=cfg.find_config_dirs("glance", "glance-api"),
        )
        deployment.require_file(conf)
        checks.deployment = deployment.read(conf)
    except exceptions.ConfigError as error:
        return _refused(str(error))
    except cfg.Error as error:
        return _refused(substitution.reason_and_option(error))
    # By this name it learns that --json was given.
    upgradecheck.CONF = conf
    return int(upgradecheck.run(conf))


def _refused(problem: str) -> int:
    print(f"{_PROGRAM}: {printable(secrecy.redact(problem))}", file=sys.stderr)
    return _FAILED


if __name__ == "__main__":
    main()
