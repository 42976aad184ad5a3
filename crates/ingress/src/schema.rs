//! The tables of calls.

use skep_store::{Migration, MigrationSet};

/// The tables of calls, to be given to `Db::open`.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "ingress",
    migrations: &[
        Migration {
            name: "0001-calls",
            sql: CALLS,
        },
        Migration {
            name: "0002-day-calls",
            sql: "
                CREATE TABLE day_calls (
                    workspace TEXT NOT NULL,
                    day BIGINT NOT NULL,
                    calls BIGINT NOT NULL,
                    PRIMARY KEY (workspace, day)
                );
            ",
        },
        Migration {
            name: "0003-runs",
            sql: "ALTER TABLE calls ADD COLUMN run BLOB;",
        },
    ],
    workspace_tables: &["calls", "attempts", "day_calls"],
};

const CALLS: &str = "
            CREATE TABLE calls (
                workspace TEXT NOT NULL,
                id BLOB NOT NULL,
                agent TEXT NOT NULL,
                state TEXT NOT NULL,
                attempt BIGINT NOT NULL,
                tries BIGINT NOT NULL,
                crashes BIGINT NOT NULL,
                epoch BIGINT NOT NULL,
                instance BLOB,
                due_at BIGINT NOT NULL,
                deadline_at BIGINT NOT NULL,
                accepted_at BIGINT NOT NULL,
                started_at BIGINT,
                finished_at BIGINT,
                reason TEXT,
                method TEXT NOT NULL,
                target TEXT NOT NULL,
                request_headers BLOB NOT NULL,
                request_trailers BLOB,
                request_body BLOB,
                request_blob BLOB,
                request_bytes BIGINT NOT NULL,
                fingerprint BLOB NOT NULL,
                idempotency_key TEXT,
                request_id BLOB NOT NULL,
                replay_of BLOB,
                status BIGINT,
                response_headers BLOB,
                response_trailers BLOB,
                response_body BLOB,
                response_blob BLOB,
                response_bytes BIGINT,
                PRIMARY KEY (workspace, id)
            );
            CREATE INDEX calls_by_agent ON calls (workspace, agent, id);
            CREATE INDEX calls_open ON calls (workspace, state, id)
                WHERE state IN ('accepted', 'running');
            CREATE INDEX calls_ended_badly ON calls (workspace, state, id)
                WHERE state IN ('failed', 'dead', 'cancelled', 'expired');
            CREATE INDEX calls_by_end ON calls (workspace, finished_at)
                WHERE state IN ('succeeded', 'failed', 'cancelled', 'expired');
            CREATE UNIQUE INDEX calls_by_key ON calls (workspace, agent, idempotency_key)
                WHERE idempotency_key IS NOT NULL;
            CREATE TABLE attempts (
                workspace TEXT NOT NULL,
                call BLOB NOT NULL,
                number BIGINT NOT NULL,
                instance BLOB,
                epoch BIGINT NOT NULL,
                started_at BIGINT NOT NULL,
                ended_at BIGINT NOT NULL,
                status BIGINT,
                reason TEXT NOT NULL,
                PRIMARY KEY (workspace, call, number)
            );
        ";
