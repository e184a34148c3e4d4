#!/bin/sh
# Sets up what the commands of the Makefile need, all of it under build/:
#   scripts/setup.sh python      build/venv: what scripts, tests and linters run in
#   scripts/setup.sh localstack  build/localstack-venv: LocalStack and our package for it
#   scripts/setup.sh terraform   checks that Terraform is there and new enough
# Missing things are named in one sentence that says how to get them.
set -eu
cd "$(dirname "$0")/.."

# Nothing is kept outside build/: the home folder may be empty or read-only.
export UV_CACHE_DIR="$PWD/build/cache/uv"
export PIP_CACHE_DIR="$PWD/build/cache/pip"
export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# An environment that the caller has active is not ours to change.
unset VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH

TERRAFORM_MINOR=11

fail() {
    echo "$*" >&2
    exit 1
}

is_311() {
    "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}

# A version manager's shim may stand first on PATH and refuse, so every folder is asked, not only the first.
find_python() {
    if [ -n "${UNTIL_ACK_PYTHON:-}" ]; then
        is_311 "$UNTIL_ACK_PYTHON" || fail "UNTIL_ACK_PYTHON is $UNTIL_ACK_PYTHON, which is no Python 3.11: name one or unset it."
        echo "$UNTIL_ACK_PYTHON"
        return
    fi
    for name in python3.11 python3 python; do
        old_ifs=$IFS
        IFS=:
        for folder in $PATH; do
            IFS=$old_ifs
            if [ -x "$folder/$name" ] && is_311 "$folder/$name"; then
                echo "$folder/$name"
                return
            fi
        done
        IFS=$old_ifs
    done
    fail "Python 3.11 is missing (LocalStack 4.9.2 needs just that; 3.12 and 3.13 were not tried for it): install it, e.g. 'apt install python3.11 python3.11-venv', 'brew install python@3.11' or 'pyenv install 3.11', or name one in UNTIL_ACK_PYTHON."
}

# The pinned uv of requirements-dev.txt, installed with its hash into an environment of its own.
bootstrap_uv() {
    pinned=$(sed -n '/^uv==/,/[^\\]$/p' requirements-dev.txt)
    version=$(echo "$pinned" | sed -n 's/^uv==\([^ ]*\).*/\1/p')
    uv="$PWD/build/uv-$version/bin/uv"
    if [ -x "$uv" ] && "$uv" --version >/dev/null 2>&1; then
        return
    fi
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        fail "$python cannot make virtual environments: install its venv module, e.g. 'apt install python3.11-venv'."
    echo "Installing uv $version …"
    rm -rf "build/uv-$version"
    "$python" -m venv "build/uv-$version"
    echo "$pinned" >build/uv-requirements.txt
    "build/uv-$version/bin/python" -m pip install --quiet --require-hashes --only-binary :all: --no-deps \
        -r build/uv-requirements.txt ||
        fail "uv $version could not be installed: pip needs a network and a package index that has it (see pip's message above)."
}

# uv puts a stamp into each environment last, so that an interrupted set-up is begun again.
make_environment() {
    folder=$1
    shift
    rm -f "$folder/.ready"
    "$uv" venv --quiet --clear --no-project --python "$python" "$folder"
    "$uv" pip install --quiet --python "$folder/bin/python" --require-hashes "$@" ||
        fail "The pinned packages could not be installed into $folder: uv needs a network and a package index that has them (see its message above)."
}

begin() {
    mkdir -p build
    python=$(find_python)
    bootstrap_uv
}

case "${1:-}" in
python)
    begin
    echo "Installing the pinned Python packages into build/venv …"
    make_environment build/venv -r requirements.txt -r requirements-dev.txt
    touch build/venv/.ready
    ;;
localstack)
    begin
    echo "Installing LocalStack 4.9.2 into build/localstack-venv …"
    make_environment build/localstack-venv -r scripts/localstack/requirements.txt -r scripts/localstack/requirements-test.txt
    # Editable, so that a change of our package needs no new set-up; uv builds it itself, without an index.
    "$uv" pip install --quiet --python build/localstack-venv/bin/python --no-deps --offline -e scripts/localstack
    touch build/localstack-venv/.ready
    ;;
terraform)
    how="install Terraform 1.$TERRAFORM_MINOR or newer from developer.hashicorp.com/terraform/install"
    command -v terraform >/dev/null 2>&1 || fail "Terraform is missing: $how."
    version=$(CHECKPOINT_DISABLE=1 terraform version 2>/dev/null | sed -n 's/^Terraform v\([0-9.]*\).*/\1/p')
    major=${version%%.*}
    minor=$(echo "$version" | cut -d. -f2)
    if [ "${major:-0}" -lt 1 ] || { [ "$major" -eq 1 ] && [ "${minor:-0}" -lt "$TERRAFORM_MINOR" ]; }; then
        fail "Terraform ${version:-of an unknown version} is too old (ephemeral values need 1.$TERRAFORM_MINOR): $how."
    fi
    ;;
*)
    fail "usage: scripts/setup.sh python|localstack|terraform"
    ;;
esac
