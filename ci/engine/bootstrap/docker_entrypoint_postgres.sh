#!/bin/bash
# The environment contract of the official postgres image, for the stand-in of Towpath:
# POSTGRES_PASSWORD[_FILE], POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS,
# POSTGRES_INITDB_WALDIR, POSTGRES_HOST_AUTH_METHOD, PGDATA, and the files in
# /docker-entrypoint-initdb.d, which are run once, when the data folder is new.
set -Eeo pipefail
shopt -s nullglob

say() { printf 'postgres: %s\n' "$*" >&2; }

# A variable, or the content of the file that VARIABLE_FILE names.
from_file() {
  local name="$1" file="$1_FILE"
  if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then
    say "error: both $name and $file are set; expected one of them"
    exit 1
  fi
  if [ -n "${!file:-}" ]; then
    export "$name=$(< "${!file}")"
  fi
  unset "$file"
}

# Run the rest of this script as the user postgres. Where only one user ID exists, as in an
# unprivileged sandbox, a nested user namespace gives it the name.
become_postgres() {
  if setpriv --reuid=postgres --regid=postgres --init-groups true 2> /dev/null; then
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$BASH_SOURCE" "$@"
  fi
  exec unshare --user --map-user=999 --map-group=999 "$BASH_SOURCE" "$@"
}

prepare_folders() {
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 00700 "$PGDATA" || :
  chmod 03775 /var/run/postgresql || :
  if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
    mkdir -p "$POSTGRES_INITDB_WALDIR"
    chmod 700 "$POSTGRES_INITDB_WALDIR"
  fi
  if [ "$(id -u)" = 0 ]; then
    local folder
    for folder in "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}; do
      find "$folder" \! -user postgres -exec chown postgres '{}' +
    done
  fi
}

require_password() {
  if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "${POSTGRES_HOST_AUTH_METHOD:-}" != trust ]; then
    say 'error: the database is new and no superuser password is given.'
    say 'hint: set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust to let everyone in.'
    exit 1
  fi
}

make_cluster() {
  local arguments=(--username="$POSTGRES_USER" --pgdata="$PGDATA")
  if [ -n "${POSTGRES_INITDB_WALDIR:-}" ]; then
    arguments+=(--waldir="$POSTGRES_INITDB_WALDIR")
  fi
  # The words of POSTGRES_INITDB_ARGS are quoted as in a shell, as the official image reads them.
  eval "initdb \"\${arguments[@]}\" --pwfile=<(printf '%s\n' \"\${POSTGRES_PASSWORD:-}\") ${POSTGRES_INITDB_ARGS:-}"
  local method="${POSTGRES_HOST_AUTH_METHOD:-}"
  if [ -z "$method" ]; then
    method="$(postgres -C password_encryption "${@:2}")"
  fi
  printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

# A server that only this script reaches, over its socket.
start_private() {
  PGUSER="$POSTGRES_USER" pg_ctl --pgdata="$PGDATA" --wait start \
    -o "-c listen_addresses='' -p ${PGPORT:-5432}"
}

stop_private() { pg_ctl --pgdata="$PGDATA" --mode=fast --wait stop; }

query() {
  PGHOST='' PGHOSTADDR='' psql --set=ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" \
    --no-password "$@"
}

docker_process_sql() { query --dbname "$POSTGRES_DB" "$@"; }

make_database() {
  if [ "$POSTGRES_DB" = postgres ]; then return; fi
  local there
  there="$(query --dbname postgres --set=db="$POSTGRES_DB" --tuples-only --no-align \
    <<< "SELECT 1 FROM pg_database WHERE datname = :'db';")"
  if [ -z "$there" ]; then
    query --dbname postgres --set=db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db";'
  fi
}

run_initdb_files() {
  local file
  for file in /docker-entrypoint-initdb.d/*; do
    say "running $file"
    case "$file" in
      *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
      *.sql) docker_process_sql --file="$file" ;;
      *.sql.gz) gunzip -c "$file" | docker_process_sql ;;
      *.sql.xz) xzcat "$file" | docker_process_sql ;;
      *.sql.zst) zstd -dc "$file" | docker_process_sql ;;
      *) say "ignoring $file" ;;
    esac
  done
}

initialise() {
  require_password
  make_cluster "$@"
  export PGPASSWORD="${PGPASSWORD:-${POSTGRES_PASSWORD:-}}"
  start_private
  make_database
  run_initdb_files
  stop_private
  unset PGPASSWORD
  say 'the database is ready for use'
}

main() {
  case "${1:-}" in -*) set -- postgres "$@" ;; esac
  if [ "${1:-}" = postgres ]; then
    local argument
    for argument in "$@"; do
      case "$argument" in -'?' | --help | --describe-config | -V | --version) exec "$@" ;; esac
    done
    prepare_folders
    if [ "$(id -u)" = 0 ]; then become_postgres "$@"; fi
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER
    from_file POSTGRES_DB
    from_file POSTGRES_INITDB_ARGS
    export POSTGRES_USER="${POSTGRES_USER:-postgres}"
    export POSTGRES_DB="${POSTGRES_DB:-$POSTGRES_USER}"
    if [ ! -s "$PGDATA/PG_VERSION" ]; then initialise "$@"; fi
  fi
  exec "$@"
}

main "$@"
