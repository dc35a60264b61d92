#!/usr/bin/env bash
# The playground in a real browser: installs Debian's Chromium and Playwright where they are missing, and runs the tests.
# Screenshots go to target/browser, or to the folder given.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v chromium >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core python3-venv
fi
venv=target/browser-venv
if ! "$venv/bin/python" -c "import playwright, axe_playwright_python" 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check playwright axe-playwright-python
fi
cargo build --release -p rushlight-cli
"$venv/bin/python" tests/browser/check.py target/release/rushlight "${1:-target/browser}"
