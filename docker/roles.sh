#!/bin/bash
# Creates a PostgreSQL role for each application. It owns the databases of the application and has access to no other.
# The script runs at each start: it keeps existing roles and databases, and sets the current passwords.
set -euo pipefail
export PGHOST=postgres PGUSER=postgres PGDATABASE=postgres PGOPTIONS=--client-min-messages=warning
PGPASSWORD=$(cat /run/secrets/postgres_password)
export PGPASSWORD

role() { # NAME DATABASE...
    local name=$1 database
    shift
    psql --quiet --set=ON_ERROR_STOP=1 --set=name="$name" --set=password="$(cat "/run/secrets/${name}_db_password")" <<'SQL'
SELECT format('CREATE ROLE %I LOGIN', :'name') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'name') \gexec
ALTER ROLE :"name" PASSWORD :'password';
SQL
    for database in "$@"; do
        psql --quiet --set=ON_ERROR_STOP=1 --set=name="$name" --set=database="$database" <<'SQL'
SELECT format('CREATE DATABASE %I OWNER %I ENCODING ''UTF8'' TEMPLATE template0', :'database', :'name')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
    done
    echo "role $name: owns $*"
}

role mlflow mlflow mlflow_auth
role prefect prefect
