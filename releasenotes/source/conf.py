# SPDX-License-Identifier: Apache-2.0
project = "glance-repl-mw release notes"
author = "The glance-repl-mw contributors"
copyright = author
extensions = ["reno.sphinxext"]
html_theme = "alabaster"
