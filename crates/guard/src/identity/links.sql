CREATE TABLE provider_links (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    email TEXT,
    by_email BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX provider_links_user ON provider_links (user_id);
CREATE TABLE provider_logins (
    hash BLOB PRIMARY KEY,
    provider TEXT NOT NULL,
    network TEXT NOT NULL,
    back TEXT,
    workspace_name TEXT,
    challenge TEXT,
    expires_at BIGINT NOT NULL
);
CREATE INDEX provider_logins_network ON provider_logins (network);
CREATE TABLE provider_proofs (
    challenge TEXT PRIMARY KEY,
    code BLOB NOT NULL,
    tries BIGINT NOT NULL,
    provider TEXT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    email TEXT,
    name TEXT NOT NULL,
    second_factor BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
ALTER TABLE sessions ADD COLUMN issuer TEXT;
