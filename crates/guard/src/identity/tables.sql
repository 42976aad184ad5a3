CREATE TABLE workspaces (
    name TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    removed_at BIGINT,
    purged_at BIGINT
);
CREATE TABLE users (
    id BLOB PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    password BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    seed BLOB,
    last_step BIGINT NOT NULL,
    recovery BLOB
);
CREATE TABLE members (
    workspace TEXT NOT NULL,
    user_id BLOB NOT NULL,
    role TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (workspace, user_id)
);
CREATE TABLE invitations (
    workspace TEXT NOT NULL,
    id BLOB NOT NULL,
    hash BLOB NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    invited_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (workspace, id)
);
CREATE TABLE sessions (
    hash BLOB PRIMARY KEY,
    id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    workspace_name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    remote TEXT NOT NULL,
    agent TEXT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE TABLE devices (
    hash BLOB PRIMARY KEY,
    user_id BLOB NOT NULL,
    used_at BIGINT NOT NULL
);
CREATE INDEX devices_user ON devices (user_id);
