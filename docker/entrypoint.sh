#!/bin/sh
# Passes secrets to a program: NAME_FILE=/run/secrets/x becomes NAME=<content of x>, unless NAME is already set.
# dvc, lenet5, mlflow and prefect are links to this file, so that `docker compose exec` passes the secrets, too.
set -eu

for entry in $(env | sed -n 's|^\([A-Z0-9_]*\)_FILE=\(/run/secrets/[^[:space:]]*\)$|\1=\2|p'); do
    name=${entry%%=*} file=${entry#*=}
    unset "${name}_FILE"
    eval "[ -z \"\${$name:-}\" ]" || continue
    [ -r "$file" ] || {
        echo "error: the secret $file cannot be read" >&2
        echo "  expected: a file for ${name}_FILE" >&2
        echo "  fix:      make secrets" >&2
        exit 2
    }
    export "$name=$(cat "$file")"
done

case ${0##*/} in
    entrypoint) exec "$@" ;;
    *) exec "/opt/venv/bin/${0##*/}" "$@" ;;
esac
