//! The tables of the vault. What is in a column named `sealed` or `wrapped` is encrypted; nothing else is a
//! secret, but whoever could write here could say that a version counts or that somebody may use one: `mac`
//! is of all other columns of the row, under a key of the workspace. The keyring is the server's own, workspace by workspace: the keys of one that is removed go first, and
//! nothing of it can be read from then on, wherever a copy lies.

use skep_store::{Migration, MigrationSet};

/// The tables of the vault.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "vault",
    migrations: &[Migration {
        name: "0001-vault",
        sql: "
            CREATE TABLE vault_seals (
                id BIGINT NOT NULL PRIMARY KEY,
                kind TEXT NOT NULL,
                name TEXT NOT NULL,
                params TEXT NOT NULL,
                wrapped BLOB NOT NULL,
                made_at BIGINT NOT NULL
            );
            CREATE TABLE vault_roots (
                version BIGINT NOT NULL PRIMARY KEY,
                state TEXT NOT NULL,
                wrapped BLOB NOT NULL,
                made_at BIGINT NOT NULL
            );
            CREATE TABLE vault_rotations (
                id BLOB NOT NULL PRIMARY KEY,
                level TEXT NOT NULL,
                of_workspace TEXT,
                old BIGINT NOT NULL,
                new BIGINT NOT NULL,
                phase TEXT NOT NULL,
                until BIGINT,
                keep BIGINT NOT NULL,
                after BLOB,
                done BIGINT NOT NULL,
                started_at BIGINT NOT NULL,
                ended_at BIGINT
            );
            CREATE TABLE vault_keys (
                of_workspace TEXT NOT NULL,
                level TEXT NOT NULL,
                version BIGINT NOT NULL,
                state TEXT NOT NULL,
                made_at BIGINT NOT NULL,
                PRIMARY KEY (of_workspace, level, version)
            );
            CREATE TABLE vault_workspace_keys (
                of_workspace TEXT NOT NULL,
                version BIGINT NOT NULL,
                root BIGINT NOT NULL,
                wrapped BLOB NOT NULL,
                PRIMARY KEY (of_workspace, version, root)
            );
            CREATE TABLE secrets (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                name_token BLOB NOT NULL,
                latest BIGINT NOT NULL,
                made_at BIGINT NOT NULL,
                changed_at BIGINT NOT NULL,
                rotate_at BIGINT,
                mac BLOB NOT NULL,
                PRIMARY KEY (workspace, id)
            );
            CREATE UNIQUE INDEX secrets_by_name ON secrets (workspace, name_token);
            CREATE INDEX secrets_by_rotation ON secrets (workspace, rotate_at);
            CREATE TABLE secret_tokens (
                workspace TEXT NOT NULL,
                token BLOB NOT NULL,
                secret BLOB NOT NULL,
                PRIMARY KEY (workspace, token, secret)
            );
            CREATE INDEX secret_tokens_by_secret ON secret_tokens (workspace, secret);
            CREATE TABLE secret_versions (
                workspace TEXT NOT NULL,
                secret BLOB NOT NULL,
                version BIGINT NOT NULL,
                state TEXT NOT NULL,
                made_at BIGINT NOT NULL,
                made_by TEXT NOT NULL,
                expires_at BIGINT,
                mac BLOB NOT NULL,
                PRIMARY KEY (workspace, secret, version)
            );
            CREATE INDEX secret_versions_by_end ON secret_versions (workspace, expires_at);
            CREATE TABLE secret_keys (
                workspace TEXT NOT NULL,
                secret BLOB NOT NULL,
                version BIGINT NOT NULL,
                generation BIGINT NOT NULL,
                parent BIGINT NOT NULL,
                wrapped BLOB NOT NULL,
                PRIMARY KEY (workspace, secret, version, generation, parent)
            );
            CREATE TABLE secret_values (
                workspace TEXT NOT NULL,
                secret BLOB NOT NULL,
                version BIGINT NOT NULL,
                generation BIGINT NOT NULL,
                sealed BLOB NOT NULL,
                PRIMARY KEY (workspace, secret, version, generation)
            );
            CREATE TABLE secret_leases (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                secret BLOB NOT NULL,
                version BIGINT,
                field TEXT,
                holder TEXT NOT NULL,
                parent TEXT,
                made_at BIGINT NOT NULL,
                expires_at BIGINT NOT NULL,
                most_until BIGINT NOT NULL,
                mac BLOB NOT NULL,
                PRIMARY KEY (workspace, id)
            );
            CREATE INDEX secret_leases_by_secret ON secret_leases (workspace, secret);
            CREATE INDEX secret_leases_by_parent ON secret_leases (workspace, parent);
            CREATE INDEX secret_leases_by_end ON secret_leases (workspace, expires_at);
            CREATE TABLE secret_shares (
                workspace TEXT NOT NULL,
                secret BLOB NOT NULL,
                holder TEXT NOT NULL,
                may TEXT NOT NULL,
                made_at BIGINT NOT NULL,
                made_by TEXT NOT NULL,
                expires_at BIGINT,
                mac BLOB NOT NULL,
                PRIMARY KEY (workspace, secret, holder, may)
            );
            CREATE INDEX secret_shares_by_holder ON secret_shares (workspace, holder);
            CREATE TABLE secret_renewals (
                workspace TEXT NOT NULL,
                secret BLOB NOT NULL,
                phase TEXT NOT NULL,
                follows BIGINT NOT NULL,
                tries BIGINT NOT NULL,
                next_at BIGINT NOT NULL,
                began_at BIGINT NOT NULL,
                mac BLOB NOT NULL,
                PRIMARY KEY (workspace, secret)
            );
            CREATE INDEX secret_renewals_by_next ON secret_renewals (workspace, next_at);
            CREATE TABLE secret_mounts (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                sealed BLOB NOT NULL,
                made_at BIGINT NOT NULL,
                made_by TEXT NOT NULL,
                mac BLOB NOT NULL,
                PRIMARY KEY (workspace, id)
            );
            CREATE TABLE secret_requests (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                secret BLOB NOT NULL,
                holder TEXT NOT NULL,
                may TEXT NOT NULL,
                reason BLOB NOT NULL,
                lasts BIGINT NOT NULL,
                state TEXT NOT NULL,
                made_at BIGINT NOT NULL,
                decided_at BIGINT,
                decided_by TEXT,
                mac BLOB NOT NULL,
                PRIMARY KEY (workspace, id)
            );
            CREATE INDEX secret_requests_by_state ON secret_requests (workspace, state, made_at);
        ",
    }],
    workspace_tables: &[
        "secrets",
        "secret_tokens",
        "secret_versions",
        "secret_keys",
        "secret_values",
        "secret_leases",
        "secret_shares",
        "secret_renewals",
        "secret_mounts",
        "secret_requests",
    ],
};
