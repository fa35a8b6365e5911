#!/usr/bin/env bash
# Runs this code on a machine that has Python, torch and perhaps a GPU but no network, from the folder this file is in.
#
#   ./run.sh [-m] [Hydra overrides]   scripts/train.py with the kit's images; the same command resumes after a stop
#   ./run.sh setup                    only unpack, install and check
#   ./run.sh test-gpu [pytest ...]    the tests that need a CUDA device
#   ./run.sh bench [bench/run.py ...] the benchmark on this device; figures in RESULTS/bench
#   ./run.sh python FILE ...          Python with the kit's packages, in the kit's copy of the code
#
# PYTHON3: the Python that has torch (python3). RESULTS: folder of the records (results next to this file).
# The first call takes a minute and fills work/. Repeat a call that was killed. A transfer may replace this folder with all
# that is in it: copy the parts of the kit to another folder first, and give launch.budget a fifth less than the time limit,
# since it does not count this first minute: 450s for 600 s.
set -euo pipefail

kit=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
base=$kit/base images=$kit/images work=$kit/work
results=$(realpath -m "${RESULTS:-$kit/results}")
python=$work/venv/bin/python
die() { echo "error: $*" >&2; exit 1; }

check_base() {
    [[ -f $base/SHA256SUMS ]] || die "$base/SHA256SUMS is missing; copy the whole folder base of the kit"
    local report
    report=$(cd "$base" && LC_ALL=C sha256sum --check --quiet SHA256SUMS 2>/dev/null) ||
        die "missing or damaged in $base: $(sed -n 's/: FAILED.*//p' <<<"$report" | paste -sd' '); copy the kit again"
}

make_venv() { # the packages of the machine's Python; those of the kit take precedence
    local folders wanted has
    wanted=$(<"$base/python") python3=${PYTHON3:-python3}
    has=$("$python3" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || die "no $python3; set PYTHON3=..."
    [[ $has == "$wanted" ]] || die "$python3 is Python $has, this kit is for $wanted; set PYTHON3=... or build another"
    rm -rf "$work/venv"
    # Not --system-site-packages: where that Python is a virtual environment, it would skip its packages.
    "$python3" -m venv --without-pip "$work/venv"
    folders=$(cd / && "$python3" -c 'import sys; print(*(p for p in sys.path if p.endswith("-packages")), sep="\n")')
    {
        echo "$work/source"
        while read -r folder; do [[ -z $folder ]] || echo "import site; site.addsitedir('$folder')"; done <<<"$folders"
    } >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/kit.pth"
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null
    (cd "$work/source" && "$python" -m tools.offline_kit.install "$base")
}

install() {
    mkdir -p "$work"
    exec 9>"$work/.lock"
    ! command -v flock >/dev/null || flock 9
    if ! cmp -s "$base/SHA256SUMS" "$work/installed"; then
        check_base
        rm -rf "$work/installed" "$work/source"
        mkdir "$work/source"
        tar -xzf "$base/source.tar.gz" -C "$work/source"
        make_venv
        cp "$base/SHA256SUMS" "$work/installed" # last: it marks all of the above as done
    fi
    exec 9>&-
}

unpack() {
    compgen -G "$images/*.pack.json" >/dev/null || return 0
    (cd "$work/source" && "$python" -m tools.offline_kit.pack "$images" --out "$work/data")
}

given() { # pattern: whether one of the overrides matches it
    local word
    for word in "${overrides[@]}"; do [[ $word != $1 ]] || return 0; done
    return 1
}

train() {
    overrides=("$@") defaults=()
    given 'results=*' || defaults+=("results=$results")
    given 'data.root=*' || defaults+=("data.root=$work/data" data.download=false)
    if given data=npz && ! given 'data.path=*'; then
        local files=("$work"/data/*.npz)
        [[ ${#files[@]} == 1 && -f ${files[0]} ]] || die "data=npz needs data.path=FILE; the kit has: ${files[*]}"
        defaults+=("data.path=${files[0]}")
    fi
    echo "records: $results"
    exec "$python" "$work/source/scripts/train.py" "$@" "${defaults[@]}"
}

test_gpu() {
    cd "$work/source"
    local files
    mapfile -t files < <(grep -rlE 'mark\.gpu\>' tests --include='test_*.py') # others may import missing packages
    exec "$python" -m pytest -m "gpu and not compiled" "${files[@]}" "$@"
}

versions() { # of the packages, and where they are
    (cd "$work/source" && "$python" -) <<'END'
from importlib.util import find_spec
import torch
from sns.record.commit import commit

for name in ("sns", "hydra", "omegaconf", "antlr4", "wandb", "torch"):
    spec = find_spec(name)
    print(f"{name:10} {spec.origin if spec else 'not installed'}")
code = commit()
device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
print(f"commit {code['commit']}{' (changed)' if code['dirty'] else ''}, torch {torch.__version__}, {device}")
END
}

verb=${1:-setup}
case $verb in
    setup | test-gpu | bench | python) shift || true ;;
    -h | --help) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit ;;
    *) verb=train ;;
esac
install
case $verb in
    setup) unpack; versions ;;
    test-gpu) test_gpu "$@" ;;
    bench) mkdir -p "$results"; exec "$python" "$work/source/bench/run.py" --device cuda --out "$results/bench" "$@" ;;
    python) cd "$work/source"; exec "$python" "$@" ;;
    train) unpack; train "$@" ;;
esac
