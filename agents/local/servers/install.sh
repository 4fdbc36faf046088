#!/bin/sh
# Installs what a fresh Debian 12 lacks, each thing once, and says what it does: Debian packages (as root or by sudo), the virtual
# environment in .venv, Kafka's jars in .local/kafka, the web chat in .local/converse, the live page's libraries in .local/live; run by root, also the system user geolane-kafka,
# since no server runs as root. Nothing else outside the project's folder is touched.
#   install.sh [EXTRAS]     EXTRAS: extras of pyproject.toml, comma separated: "test" for example
#   install.sh docs         and, for `make docs`, mermaid in .local/mermaid
#   install.sh streams      and the router's engine on Kafka Streams, built into .local/streams; "test" brings it, too, with its unit tests
#   install.sh flink        and Apache Flink's jars in .local/flink (and for root the user geolane-flink); "test" brings them, too
set -eu
cd "$(dirname "$0")/../../.."
extras=${1:-} flink="" streams=""
case ",$extras," in *,flink,* | *,test,*) flink=.local/flink/.complete-$(cksum <agents/local/servers/flink/pom.xml | cut -d' ' -f1);; esac
case ",$extras," in *,streams,* | *,test,*) streams=.local/streams/.complete-$(find agents/router/streams -type f | LC_ALL=C sort | xargs cat | sha256sum | cut -c1-16);; esac # the same as in agents/router/java_program.py
unit_tests=-DskipTests
case ",$extras," in *,test,*) unit_tests="";; esac
extras=$(printf '%s' "$extras" | tr ',' '\n' | grep -vx -e flink -e streams | tr '\n' ',' | sed 's/,$//')
mkdir -p .local
say() { printf '== %s\n' "$*"; }
received_mb() { # what this machine has received by its network, without the loopback
  awk 'NR > 2 { sub(":", " ") } NR > 2 && $1 != "lo" { n += $2 } END { printf "%d", n / 1000000 }' /proc/net/dev 2>/dev/null || echo 0
}
follow() { # PROCESS LOG SED: shows lines of the log, as the sed command prints them, until the process ends: the tools' own progress needs a terminal.
  # Where there are none, as during a large file, every 10 s how long it has taken, and what this machine has received meanwhile.
  seen=0 running=1 quiet=0 begun=$(date +%s) had_mb=$(received_mb)
  while [ "$running" = 1 ]; do
    kill -0 "$1" 2>/dev/null || running=0
    lines=$(wc -l <"$2") new=""
    [ "$lines" = "$seen" ] || new=$(sed -n "$((seen + 1)),${lines}$3" "$2")
    seen=$lines quiet=$((quiet + 1))
    if [ -n "$new" ]; then
      printf '%s\n' "$new"
      quiet=0
    elif [ "$quiet" -ge 10 ]; then
      printf '   ... %s s, %s MB received\n' $(($(date +%s) - begun)) $(($(received_mb) - had_mb))
      quiet=0
    fi
    [ "$running" = 0 ] || sleep 1
  done
}
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
[ -z "${GEOLANE_KAFKA:-}" ] || need maven mvn
[ -z "$flink" ] || [ -e "$flink" ] || need maven mvn
if [ -n "$streams" ] && [ ! -e "$streams" ]; then need maven mvn; need openjdk-17-jdk-headless javac; fi
sums=agents/local/servers/web/packages.sha512 # which npm packages, and of what content
chat=.local/converse/.complete-$(cksum <$sums | cut -d' ' -f1)
axe=.local/axe/axe.min.js
mermaid=.local/mermaid/mermaid.min.js
case ",$extras," in *,test,*) ;; *) axe=.;; esac # the tests' alone
case ",$extras," in *,test,* | *,docs,*) ;; *) mermaid=.;; esac
live_sums=agents/local/servers/live/packages.sha512
live=.local/live/.complete-$(cksum <$live_sums | cut -d' ' -f1)
[ -e "$chat" ] && [ -e "$axe" ] && [ -e "$live" ] && [ -e "$mermaid" ] || need npm npm
case ",$extras," in *,test,*) need chromium chromium; need kcat kcat; need spin spin; need gcc gcc; need g++ g++; need systemd systemd-analyze; need libc6-dev /usr/include/stdio.h; need prometheus promtool;; esac
python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing="$missing python3-venv"

sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo"

if [ -n "$missing" ]; then
  say "Debian packages:$missing"
  command -v apt-get >/dev/null 2>&1 || fail "this is not Debian: install$missing with your package manager, then try again"
  [ -z "$sudo" ] || command -v sudo >/dev/null 2>&1 || fail "run this as root once, or install$missing, then try again"
  # ejabberd's package starts a server that listens on every address, and its Erlang a port mapper that does so too. A policy-rc.d
  # that refuses keeps both from starting now; this script makes it, and removes it in any case.
  guard=/usr/sbin/policy-rc.d
  if [ ! -e "$guard" ]; then
    trap '$sudo rm -f "$guard"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$guard" >/dev/null
    $sudo chmod 755 "$guard"
  fi
  # Services that this script installs do not start at the next boot, either; those that were here before stay as they are.
  case "$missing" in *ejabberd*)
    printf ' ejabberd.service' >>.local/disable
    command -v epmd >/dev/null 2>&1 || printf ' epmd.service epmd.socket' >>.local/disable;;
  esac
  case "$missing" in *prometheus*) printf ' prometheus.service' >>.local/disable;; esac # for promtool alone
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get update -q
  # shellcheck disable=SC2086
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
fi
if [ -e .local/disable ]; then # also when an earlier run was cut off after apt-get
  if command -v systemctl >/dev/null 2>&1; then
    for unit in $(cat .local/disable); do
      [ ! -d /run/systemd/system ] || $sudo systemctl stop "$unit" || true
      $sudo systemctl disable "$unit" >/dev/null 2>&1 || say "could not disable $unit: check whether it starts at boot"
    done
  fi
  rm .local/disable
fi

# ---- the users that servers run as when root starts them ----

for user in geolane-kafka ${flink:+geolane-flink}; do
  if [ "$(id -u)" = 0 ] && ! getent passwd "$user" >/dev/null; then
    say "system user $user"
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
  fi
done

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
    : >.local/pip.log # there before `follow` looks at it
    .venv/bin/python -m pip install --disable-pip-version-check --no-input -e ".${extra:+[$extra]}" >.local/pip.log 2>&1 &
    pip=$!
    follow "$pip" .local/pip.log 's/^Collecting \([^ ]*\).*/   \1/p'
    wait "$pip" || { tail -n 20 .local/pip.log >&2; fail "pip failed; see .local/pip.log"; }
    rm -f .venv/.geolane-*-"${extra:-base}"
    touch "$stamp"
  fi
done

# ---- kernels ----

compiled=.venv/.geolane-kernels-$(find kernels -name '*.py' | sort | xargs cat | cksum | cut -d' ' -f1)
if [ ! -e "$compiled" ]; then
  say "the planner's kernels, compiled for this processor"
  .venv/bin/python -c 'from kernels.scoring.choose import choose_numerics; print("  ", choose_numerics().why)'
  rm -f .venv/.geolane-kernels-*
  touch "$compiled"
fi

# ---- Kafka, Flink ----

jars() { # WHAT FOLDER STAMP POM [MAVEN'S ARGUMENTS]: jars with Maven, unless the file FOLDER/STAMP says that they are there
  what=$1 to=$2 stamp=$3 pom=$4
  shift 4
  [ ! -e "$to/$stamp" ] || return 0
  say "$what into $to"
  rm -rf "$to"
  : >.local/maven.log
  mvn -B -f "$pom" "$@" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/$to" >.local/maven.log 2>&1 &
  mvn=$!
  follow "$mvn" .local/maven.log 's/.*Downloaded from .*\/\([^ /]*\.jar\) (\([^ ]* [^ ]*\).*/   \1 \2/p'
  wait "$mvn" || { grep -E 'ERROR|BUILD' .local/maven.log | head -n 20 >&2; fail "Maven failed; see .local/maven.log"; }
  touch "$to/$stamp"
}
kafka() { # FOLDER [VERSION]: the version in pom.xml unless another is named
  jars "Apache Kafka's jars (44 MB)" "$1" .complete agents/local/servers/kafka/pom.xml ${2:+-Dkafka.version="$2"}
  ls "$1"/kafka_2.13-*.jar >/dev/null
}
kafka .local/kafka
for version in ${GEOLANE_KAFKA:-}; do # to be tested against: make chaos-requests KAFKA="..."
  [ -e ".local/kafka/kafka_2.13-$version.jar" ] || kafka ".local/kafka-$version" "$version"
done
if [ -n "$streams" ] && [ ! -e "$streams" ]; then
  # shellcheck disable=SC2086
  jars "the router on Kafka Streams (26 MB), built here," .local/streams-new .built agents/router/streams/pom.xml $unit_tests package
  cp .local/streams-build/geolane-router.jar .local/streams-new/
  rm -rf .local/streams
  mv .local/streams-new .local/streams
  touch "$streams"
fi
[ -z "$flink" ] || jars "Apache Flink's jars (150 MB)" "${flink%/*}" "${flink##*/}" agents/local/servers/flink/pom.xml

# ---- web chat ----

bring() { # NAME TO FILE...: from the npm package NAME the FILEs, into the folder TO. Its scripts are not run, what it depends on is not fetched.
  name=$1 to=$2
  shift 2
  rm -rf .local/npm "$to"
  mkdir -p .local/npm "$to"
  : >.local/npm.log
  {
    version=$(sed -n "s/^[0-9a-f]*  $name-\(.*\)\.tgz$/\1/p" $sums) &&
      (cd .local/npm && npm pack --silent --cache ./cache --ignore-scripts --no-update-notifier "$name@$version") &&
      (cd .local/npm && sha512sum --check --strict --ignore-missing "../../$sums") &&
      tar -xzf ".local/npm/$name-$version.tgz" -C .local/npm
  } >.local/npm.log 2>&1 &
  npm=$!
  follow "$npm" .local/npm.log d
  wait "$npm" || { tail -n 20 .local/npm.log >&2; fail "npm could not fetch $name; see .local/npm.log"; }
  for file in "$@"; do cp -r ".local/npm/package/$file" "$to"; done
  rm -rf .local/npm
}
if [ ! -e "$chat" ]; then
  say "converse.js (9 MB), the web chat's client, into .local/converse"
  rm -rf .local/converse
  bring converse.js .local/converse/served LICENSE COPYRIGHT \
    dist/converse.min.js dist/converse.min.css dist/emoji.json dist/images/favicon.ico dist/webfonts
  touch "$chat"
fi
if [ ! -e "$live" ]; then
  say "the live page's libraries and coastlines (6 MB), into .local/live"
  rm -rf .local/live
  sums=$live_sums
  bring strophe.js .local/live/strophe.js LICENSE.txt dist/strophe.esm.js
  bring ol .local/live/ol LICENSE.md dist/ol.js ol.css
  bring uplot .local/live/uplot LICENSE dist/uPlot.esm.js dist/uPlot.min.css
  bring world-atlas .local/live/world-atlas LICENSE land-50m.json
  sums=agents/local/servers/web/packages.sha512
  touch "$live"
fi
if [ ! -e "$axe" ]; then
  say "axe-core, which checks the web chat in the tests, into .local/axe"
  bring axe-core .local/axe axe.min.js
fi
if [ ! -e "$mermaid" ]; then
  say "mermaid (18 MB), which draws the diagrams of the pages, into .local/mermaid"
  bring mermaid .local/mermaid LICENSE dist/mermaid.min.js
fi
