#!/bin/sh
# Installs what a fresh Debian 12 lacks, each thing once, and says what it does: Debian packages (as root or by sudo), the virtual
# environment in .venv, Kafka's jars in .local/kafka, the web chat in .local/converse. Nothing else outside the project's folder is touched.
#   install.sh [EXTRAS]     EXTRAS: extras of pyproject.toml, comma separated: "test" for example
set -eu
cd "$(dirname "$0")/../.."
extras=${1:-}
mkdir -p .local
say() { printf '== %s\n' "$*"; }
fail() { printf 'install: %s\n' "$*" >&2; exit 1; }

# ---- Debian packages ----

missing=""
need() { # PACKAGE THING: the package is wanted unless the command or file THING is there
  if ! { command -v "$2" >/dev/null 2>&1 || [ -e "$2" ]; }; then missing="$missing $1"; fi
}
need ejabberd /usr/sbin/ejabberdctl
need python3 python3
need openjdk-17-jre-headless java
[ -e .local/kafka/.complete ] || need maven mvn
chat=.local/converse/.complete-$(cat agents/embedded/web/package*.json | cksum | cut -d' ' -f1)
[ -e "$chat" ] || need npm npm
case ",$extras," in *,test,*) need chromium chromium; need spin spin; need gcc gcc; need g++ g++; need systemd systemd-analyze; need libc6-dev /usr/include/stdio.h;; esac
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"

if [ -n "$missing" ]; then
  say "Debian packages:$missing"
  command -v apt-get >/dev/null 2>&1 || fail "this is no Debian: install$missing in your system's way, then try again"
  [ -z "$sudo" ] || command -v sudo >/dev/null 2>&1 || fail "run this as root once, or install$missing, then try again"
  # ejabberd's package starts a server that listens on every address, and its Erlang a port mapper that does so too. A policy-rc.d
  # that says no keeps both from starting now; it is ours alone, and gone afterwards whatever happens.
  guard=/usr/sbin/policy-rc.d
  if [ ! -e "$guard" ]; then
    trap '$sudo rm -f "$guard"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$guard" >/dev/null
    $sudo chmod 755 "$guard"
  fi
  # What this script brings it also keeps from starting at the next boot; what was here before is somebody's, and stays as it is.
  case "$missing" in *ejabberd*)
    printf 'ejabberd.service' >.local/disable
    command -v epmd >/dev/null 2>&1 || printf ' epmd.service epmd.socket' >>.local/disable;;
  esac
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -q
  # shellcheck disable=SC2086
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi
if [ -e .local/disable ]; then # also when an earlier run was cut off after apt-get
  if command -v systemctl >/dev/null 2>&1; then
    for unit in $(cat .local/disable); do
      [ ! -d /run/systemd/system ] || $sudo systemctl stop "$unit" || true
      $sudo systemctl disable "$unit" >/dev/null 2>&1 || say "could not disable $unit: see whether it starts at boot"
    done
  fi
  rm .local/disable
fi

# ---- Python packages ----

if [ ! -x .venv/bin/python ]; then
  say "virtual environment in .venv"
  python3 -m venv .venv
fi
want=$(cksum <pyproject.toml | cut -d' ' -f1)
for extra in "" $(printf '%s' "$extras" | tr ',' ' '); do
  stamp=.venv/.geolane-$want-${extra:-base}
  if [ ! -e "$stamp" ]; then
    say "Python packages${extra:+ for $extra}"
    : >.local/pip.log # there before the loop below looks at it
    .venv/bin/python -m pip install --disable-pip-version-check --no-input -e ".${extra:+[$extra]}" >.local/pip.log 2>&1 &
    pip=$!
    while kill -0 "$pip" 2>/dev/null; do # one line per package, since pip's own progress needs a terminal
      lines=$(wc -l <.local/pip.log)
      sed -n "$((${seen:-0} + 1)),${lines}s/^Collecting \([^ ]*\).*/   \1/p" .local/pip.log
      seen=$lines
      sleep 1
    done
    seen=0
    wait "$pip" || { tail -n 20 .local/pip.log >&2; fail "pip did not succeed; all it said is in .local/pip.log"; }
    rm -f .venv/.geolane-*-"${extra:-base}"
    touch "$stamp"
  fi
done

# ---- kernels ----

compiled=.venv/.geolane-kernels-$(cat kernels/*.py | cksum | cut -d' ' -f1)
if [ ! -e "$compiled" ]; then
  say "the planner's kernels, compiled for this processor"
  .venv/bin/python -c 'from kernels.choose import choose; print("  ", choose().why)'
  rm -f .venv/.geolane-kernels-*
  touch "$compiled"
fi

# ---- Kafka ----

if [ ! -e .local/kafka/.complete ]; then
  say "Apache Kafka's jars (44 MB) into .local/kafka"
  rm -rf .local/kafka
  mvn -B -ntp -f agents/embedded/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$PWD/.local/kafka" >.local/maven.log 2>&1 ||
    { grep -E 'ERROR|BUILD' .local/maven.log | head -n 20 >&2; fail "Maven did not succeed; see .local/maven.log"; }
  ls .local/kafka/kafka_2.13-*.jar >/dev/null
  touch .local/kafka/.complete
fi

# ---- web chat ----

# Of what npm brings only the files that the page is made of are kept; the tests' axe-core lies beside them and is not served.
if [ ! -e "$chat" ]; then
  say "converse.js, the web chat's client, into .local/converse"
  rm -rf .local/converse .local/npm
  mkdir -p .local/npm
  cp agents/embedded/web/package.json agents/embedded/web/package-lock.json .local/npm
  (cd .local/npm && npm ci --cache ./cache --ignore-scripts --no-audit --no-fund --no-update-notifier) >.local/npm.log 2>&1 ||
    { tail -n 20 .local/npm.log >&2; fail "npm did not succeed; all it said is in .local/npm.log"; }
  mkdir -p .local/converse/served/webfonts .local/converse/served/images
  built=.local/npm/node_modules/converse.js
  cp $built/LICENSE* $built/COPYRIGHT* $built/dist/converse.min.js $built/dist/converse.min.css $built/dist/emoji.json .local/converse/served
  cp $built/dist/webfonts/*.ttf .local/converse/served/webfonts
  cp $built/dist/images/favicon.ico .local/converse/served/images
  cp .local/npm/node_modules/axe-core/axe.min.js .local/converse
  rm -rf .local/npm
  touch "$chat"
fi
