# SPDX-License-Identifier: Apache-2.0
project = "glance-repl-mw"
author = "The glance-repl-mw contributors"
copyright = author
extensions: list[str] = []
html_theme = "alabaster"
