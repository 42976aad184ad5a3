//! The keys: one table that the settings, their defaults, the reference and every check come from.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::units;

/// What kind of value a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An IP address and a port.
    Address,
    /// A path of the file system.
    Path,
    /// `true` or `false`.
    Bool,
    /// A whole number from 1.
    Count,
    /// A port of TCP.
    Port,
    /// A size in bytes.
    Bytes,
    /// A length of time.
    Duration,
    /// A number of requests in a time.
    Rate,
    /// Rates by what is done.
    Rates,
    /// Any text.
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts.
    List,
}

impl Kind {
    /// What is allowed, to go after "allowed is".
    #[must_use]
    pub fn allowed(self) -> String {
        match self {
            Self::Address => "an IP address and a port, such as 127.0.0.1:7537".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Count => "a whole number from 1".to_owned(),
            Self::Port => "a port from 1 to 65535".to_owned(),
            Self::Bytes => "a size, such as 512, 64KiB or 1GiB".to_owned(),
            Self::Duration => "a duration, such as 250ms, 30s or 1h30m".to_owned(),
            Self::Rate => "a number in a time, such as 600/1m".to_owned(),
            Self::Rates => "actions or groups with rates, such as agent:deploy=10/1m".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List => "a list of texts (with commas between them in a variable)".to_owned(),
        }
    }

    /// The kind in one word, for the reference.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Path => "path",
            Self::Bool => "bool",
            Self::Count => "count",
            Self::Port => "port",
            Self::Bytes => "size",
            Self::Duration => "duration",
            Self::Rate => "rate",
            Self::Rates => "rates",
            Self::Text => "text",
            Self::Choice(_) => "choice",
            Self::List => "list",
        }
    }
}

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The name, with dots between its parts.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The default as text; empty when there is none, or when it depends on the machine.
    pub default: &'static str,
    /// Whether the value must never be shown.
    pub secret: bool,
    doc: &'static str,
    /// The value in its normal form, if it is one.
    pub(super) normal: fn(&str) -> Option<String>,
}

impl Key {
    /// The key with this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// What it is for.
    #[must_use]
    pub fn doc(&self) -> &'static str {
        self.doc.trim_start()
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!(
            "{}{}",
            super::PREFIX,
            self.name.to_uppercase().replace('.', "_")
        )
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// Those that have one.
    Optional,
    /// All of them.
    Required,
}

/// Who keeps agents in containers from the services of the server's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DockerFirewall {
    /// Skep, with a rule of iptables.
    #[default]
    Skep,
    /// Whoever runs the machine.
    External,
}

/// A type that a key can have.
trait Setting: Sized {
    const KIND: Kind;
    const SECRET: bool = false;

    fn read(text: &str) -> Option<Self>;
    fn show(&self) -> String;
}

impl Setting for SocketAddr {
    const KIND: Kind = Kind::Address;

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::Path;

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for String {
    const KIND: Kind = Kind::Text;

    fn read(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

/// An address that may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The address with what it holds.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretUrl(…)")
    }
}

impl Setting for SecretUrl {
    const KIND: Kind = Kind::Text;
    const SECRET: bool = true;

    fn read(text: &str) -> Option<Self> {
        let known = ["postgres://", "postgresql://"];
        let fits = known.iter().any(|scheme| text.starts_with(scheme));
        fits.then(|| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

/// A text that nobody may see.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Setting for SecretText {
    const KIND: Kind = Kind::Text;
    const SECRET: bool = true;

    fn read(text: &str) -> Option<Self> {
        // A blank one would be a secret that everybody knows.
        (!text.trim().is_empty()).then(|| Self(text.to_owned()))
    }

    fn show(&self) -> String {
        self.0.clone()
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;
    const SECRET: bool = T::SECRET;

    fn read(text: &str) -> Option<Self> {
        // A secret that is blank is one that somebody forgot to fill in.
        if text.is_empty() || (T::SECRET && text.trim().is_empty()) {
            return Some(None);
        }
        T::read(text).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map(Setting::show).unwrap_or_default()
    }
}

impl Setting for bool {
    const KIND: Kind = Kind::Bool;

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for u32 {
    const KIND: Kind = Kind::Count;

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|count| *count > 0)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Numbers of 16 bits are ports.
impl Setting for u16 {
    const KIND: Kind = Kind::Port;

    fn read(text: &str) -> Option<Self> {
        text.parse().ok().filter(|port| *port > 0)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for usize {
    const KIND: Kind = Kind::Count;

    fn read(text: &str) -> Option<Self> {
        <u32 as Setting>::read(text).and_then(|count| Self::try_from(count).ok())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Numbers of 64 bits are sizes.
impl Setting for u64 {
    const KIND: Kind = Kind::Bytes;

    fn read(text: &str) -> Option<Self> {
        units::parse_bytes(text)
    }

    fn show(&self) -> String {
        units::format_bytes(*self)
    }
}

impl Setting for Duration {
    const KIND: Kind = Kind::Duration;

    fn read(text: &str) -> Option<Self> {
        units::parse_duration(text)
    }

    fn show(&self) -> String {
        units::format_duration(*self)
    }
}

impl Setting for units::Rate {
    const KIND: Kind = Kind::Rate;

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// Rates by what is done: `agent:deploy=10/1m`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActionRates(pub Vec<(String, units::Rate)>);

impl Setting for ActionRates {
    const KIND: Kind = Kind::Rates;

    fn read(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty()).map(|part| {
            let (name, rate) = part.split_once('=')?;
            Some((name.trim().to_owned(), rate.parse().ok()?))
        });
        parts.collect::<Option<Vec<_>>>().map(Self)
    }

    fn show(&self) -> String {
        let all = self.0.iter().map(|(name, rate)| format!("{name}={rate}"));
        all.collect::<Vec<_>>().join(",")
    }
}

impl Setting for Vec<String> {
    const KIND: Kind = Kind::List;

    fn read(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim);
        Some(
            parts
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect(),
        )
    }

    fn show(&self) -> String {
        self.join(",")
    }
}

impl Setting for LogFormat {
    const KIND: Kind = Kind::Choice(&["auto", "human", "json"]);

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "human" => Some(Self::Human),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Auto => "auto",
            Self::Human => "human",
            Self::Json => "json",
        }
        .to_owned()
    }
}

impl Setting for ClientAuth {
    const KIND: Kind = Kind::Choice(&["none", "optional", "required"]);

    fn read(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "optional" => Some(Self::Optional),
            "required" => Some(Self::Required),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
        .to_owned()
    }
}

impl Setting for DockerFirewall {
    const KIND: Kind = Kind::Choice(&["skep", "external"]);

    fn read(text: &str) -> Option<Self> {
        match text {
            "skep" => Some(Self::Skep),
            "external" => Some(Self::External),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Skep => "skep",
            Self::External => "external",
        }
        .to_owned()
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident ($name:literal): $type:ty = $default:literal;)*) => {
        /// Every setting, typed. A field is called as its key, with `_` for the dot.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        /// Every key, in the order of the reference.
        pub const KEYS: &[Key] = &[$(Key {
            name: $name,
            kind: <$type as Setting>::KIND,
            default: $default,
            secret: <$type as Setting>::SECRET,
            doc: concat!($($doc),+),
            normal: |text| <$type as Setting>::read(text).map(|value| value.show()),
        },)*];

        impl Settings {
            /// The settings of these texts; fails with the name of the key that cannot be read.
            pub(super) fn read(text: impl Fn(&'static str) -> String) -> Result<Self, &'static str> {
                Ok(Self {
                    $($field: <$type as Setting>::read(&text($name)).ok_or($name)?,)*
                })
            }
        }
    };
}

settings! {
    /// The address and port to listen on.
    listen("listen"): SocketAddr = "127.0.0.1:7537";
    /// Accept unencrypted connections on an address that other machines can reach, for example
    /// behind a proxy that does TLS.
    listen_plaintext("listen_plaintext"): bool = "false";
    /// The data folder: database, blobs, logs and homes of agents, the first key. Default:
    /// `$XDG_DATA_HOME/skep`, else `~/.local/share/skep`.
    data("data"): PathBuf = "";
    /// The server's certificate chain, as a PEM file. With it and `tls.key`, Skep speaks TLS.
    tls_cert("tls.cert"): Option<PathBuf> = "";
    /// The private key of `tls.cert`, as a PEM file.
    tls_key("tls.key"): Option<PathBuf> = "";
    /// Certificates (PEM) of those who sign certificates of clients. Looked at every few seconds, as
    /// `tls.cert` and `tls.key` are.
    tls_client_ca("tls.client_ca"): Option<PathBuf> = "";
    /// Whether clients show a certificate: `none`, `optional` or `required`. What it counts for stands in
    /// `auth.certificates`.
    tls_client_auth("tls.client_auth"): ClientAuth = "none";
    /// A PostgreSQL database, such as `postgres://skep@localhost/skep`, which several servers may
    /// share; without it everything is in the data folder. Logs, homes and volumes stay there in any
    /// case.
    store_url("store.url"): Option<SecretUrl> = "";
    /// A file with API keys for automation, beside those that are made with `skep keys create`: a line each
    /// of NAME ROLE SCOPES KEY, where `skep keys generate` makes a KEY. Only the server's user may read it.
    keys_file("keys.file"): Option<PathBuf> = "";
    /// Blocks of addresses that Skep may ask though they are none of the internet, such as `10.1.0.0/16`, when
    /// it is told an address: for key sets of issuers, and for providers.
    outgoing_allow("outgoing.allow"): Vec<String> = "";
    /// A file with prices of models, which take the place of those that are shipped: TOML, as `docs/models.md` says.
    models_prices("models.prices"): Option<PathBuf> = "";
    /// Whether the end of a model's answer waits until what it cost is on the disk; else that is there soon after
    /// (100 ms), and a killed server loses nothing.
    models_strict("models.strict"): bool = "false";
    /// How long exchanges with models, tools and the web are kept one by one, at least a day. Their sums by day, and what the
    /// audit log has, stay.
    exchanges_retention("exchanges.retention"): Duration = "90d";
    /// A file with certificates (PEM) of CAs that are believed beside the system's, when agents ask hosts of the web, and
    /// when webhooks are sent.
    web_ca("web.ca"): Option<PathBuf> = "";
    /// How long a webhook endpoint may take to answer. At most 2m.
    webhooks_timeout("webhooks.timeout"): Duration = "20s";
    /// The waits between one try of a webhook's message and the next, each longer by up to a quarter, by chance. After the
    /// last one the message is dead.
    webhooks_schedule("webhooks.schedule"): Vec<String> = "5s,5m,30m,2h,5h,10h,14h,20h,24h";
    /// A webhook endpoint that failed for so long, and took nothing meanwhile, is turned off.
    webhooks_give_up("webhooks.give_up"): Duration = "5d";
    /// How long messages of webhooks are kept; of those that were delivered the newest 1,000 of an endpoint.
    webhooks_retention("webhooks.retention"): Duration = "14d";
    /// Whether a browser's session lets in to `/api/v1/live` by its cookie. Off, a key or token is shown there, as `docs/live.md` says.
    live_cookies("live.cookies"): bool = "false";
    /// A person's session without a request ends after this.
    sessions_idle("sessions.idle"): Duration = "12h";
    /// A person's session ends after this at the latest.
    sessions_lifetime("sessions.lifetime"): Duration = "7d";
    /// A file with the issuers whose tokens (JWT) count beside API keys, and what their bearers are here:
    /// TOML, as `docs/jwt.md` says.
    auth_issuers("auth.issuers"): Option<PathBuf> = "";
    /// A file with the OpenID Connect providers that people log in by: TOML, as `docs/providers.md` says.
    auth_providers("auth.providers"): Option<PathBuf> = "";
    /// A file with the hooks that make new values of secrets: TOML, as `docs/secrets.md` says.
    secrets_hooks("secrets.hooks"): Option<PathBuf> = "";
    /// A file that says whom certificates of clients count for: TOML, as `docs/tls.md` says.
    auth_certificates("auth.certificates"): Option<PathBuf> = "";
    /// The file with the key that signs the audit log; made when it is not there. Default: `audit.key` in
    /// the data folder. Servers that share a database need the same one.
    audit_key("audit.key"): Option<PathBuf> = "";
    /// How long entries of the audit log are kept; of older ones only the hashes are, so that the log
    /// stays provable. At least 1d. Default: for ever.
    audit_retention("audit.retention"): Option<Duration> = "";
    /// Frameworks that hold here: of `gdpr`, `hipaa`, `sox`, `soc2`. With `gdpr`, whoever takes data out
    /// (archives of agents, the audit log, backups) says what for.
    compliance_frameworks("compliance.frameworks"): Vec<String> = "";
    /// Where the other servers of the same database reach this one, such as
    /// `https://one.example:7537`; else the address that it listens on.
    servers_url("servers.url"): Option<String> = "";
    /// Endpoints of etcd, such as `http://127.0.0.1:2379`: its leases say then which servers live and
    /// which one leads, instead of beats in the database.
    servers_etcd("servers.etcd"): Vec<String> = "";
    /// What the keys in etcd begin with; each database has its own.
    servers_etcd_prefix("servers.etcd_prefix"): String = "/skep";
    /// Agents that a workspace may have; without it as many as fit. `skep workspaces quota` says it for one
    /// workspace, and so for what follows.
    quota_agents("quota.agents"): Option<u32> = "";
    /// Instances that the agents of a workspace may have together, each at its most.
    quota_instances("quota.instances"): Option<u32> = "";
    /// Calls of a workspace that may wait at once on one server.
    quota_calls_waiting("quota.calls_waiting"): Option<u32> = "";
    /// Calls that a workspace may make on one day (UTC).
    quota_calls_per_day("quota.calls_per_day"): Option<u32> = "";
    /// API keys that a workspace may have.
    quota_keys("quota.keys"): Option<u32> = "";
    /// People and open invitations that a workspace may have.
    quota_users("quota.users"): Option<u32> = "";
    /// Bytes that the ended calls of a workspace may hold before it makes more.
    quota_stored_bytes("quota.stored_bytes"): Option<u64> = "";
    /// The largest body of a request.
    limits_body("limits.body"): u64 = "64MiB";
    /// The largest head of a request: target and headers together.
    limits_headers("limits.headers"): u64 = "64KiB";
    /// Client connections that may be open at once; more wait to be taken.
    limits_connections("limits.connections"): usize = "4096";
    /// Requests from one address, such as `600/1m`; without it there is no such limit.
    limits_rate_address("limits.rate_address"): Option<units::Rate> = "";
    /// Requests of one principal: a key, a person, an agent.
    limits_rate_principal("limits.rate_principal"): Option<units::Rate> = "";
    /// Calls to one agent, whoever makes them.
    limits_rate_agent("limits.rate_agent"): Option<units::Rate> = "";
    /// Requests of one principal by what they do: actions or groups of them (`agent:deploy=10/1m`).
    limits_rate_actions("limits.rate_actions"): ActionRates = "";
    /// Detections that are not told of, such as `new-address,rate`: kinds, as `docs/security.md` lists them.
    detections_off("detections.off"): Vec<String> = "";
    /// Refusals of one principal that are a detection.
    detections_denials("detections.denials"): units::Rate = "20/1m";
    /// Failed authentications of one address that are a detection.
    detections_failed_authentications("detections.failed_authentications"): units::Rate = "20/1m";
    /// Requests of one principal; more are a detection.
    detections_rate("detections.rate"): units::Rate = "20000/1s";
    /// Networks that one principal asks from; more are a detection.
    detections_networks("detections.networks"): units::Rate = "5/10m";
    /// Requests of one address that look like tries and are a detection together.
    detections_patterns("detections.patterns"): units::Rate = "5/10m";
    /// Different things that one address asks for, that are not there, and that are a detection together.
    detections_missing("detections.missing"): units::Rate = "50/10m";
    /// Requests of one principal for workspaces of others that are a detection.
    detections_foreign("detections.foreign"): units::Rate = "5/10m";
    /// Time for the head of a request to arrive, and that a client's connection may be idle before
    /// the next one.
    limits_header_timeout("limits.header_timeout"): Duration = "30s";
    /// The longest pause within the body of a request.
    limits_body_timeout("limits.body_timeout"): Duration = "30s";
    /// How long ended calls are kept. Dead ones stay until they are redriven or purged.
    calls_retention("calls.retention"): Duration = "7d";
    /// How long it is kept how calls went, hour by hour (`skep performance`).
    performance_retention("performance.retention"): Duration = "30d";
    /// Bytes of bodies of ended calls that are kept; the oldest go first.
    calls_retention_bytes("calls.retention_bytes"): u64 = "1GiB";
    /// How long it is kept what runs came to, after their end, and conversations in which nothing happens.
    runs_retention("runs.retention"): Duration = "90d";
    /// Agents that may ask one another in one run, each within the run of the one before.
    runs_depth("runs.depth"): u32 = "8";
    /// What is logged: a level, or levels by module such as `info,skep_ingress=debug`.
    log_level("log.level"): String = "info";
    /// How log lines look: `auto` is human on a terminal and JSON otherwise.
    log_format("log.format"): LogFormat = "auto";
    /// The file to log to, instead of standard error.
    log_file("log.file"): Option<PathBuf> = "";
    /// Size at which a new log file is begun.
    log_file_size("log.file_size"): u64 = "64MiB";
    /// Log files that are kept, the current one included.
    log_files("log.files"): u32 = "5";
    /// Where traces go, as OTLP over HTTP, for example `http://127.0.0.1:4318`.
    otlp_endpoint("otlp.endpoint"): Option<String> = "";
    /// Origins whose pages may call Skep from a browser, such as `https://app.example.com`.
    cors_origins("cors.origins"): Vec<String> = "";
    /// Time that running calls get to end when the server shuts down; then they wait for the next
    /// start.
    shutdown_drain("shutdown.drain"): Duration = "30s";
    /// Free space on the disk below which no call is taken.
    disk_min_free("disk.min_free"): u64 = "256MiB";
    /// Size at which a new log file of an agent is begun.
    agents_log_size("agents.log_size"): u64 = "8MiB";
    /// Log files that are kept of an agent, the current one included.
    agents_log_files("agents.log_files"): u32 = "4";
    /// Events that are kept, the newest.
    events_keep("events.keep"): u32 = "10000";
    /// How long events are kept.
    events_retention("events.retention"): Duration = "7d";
    /// Whether `skep exec` may run commands in the boxes of agents' instances.
    exec_enabled("exec.enabled"): bool = "true";
    /// The Unix socket of Docker Engine, for agents with `driver: docker`. A server
    /// without one runs as any other.
    docker_socket("docker.socket"): PathBuf = "/var/run/docker.sock";
    /// The addresses of the network of this server's containers, such as `10.213.0.0/16`; else
    /// Docker Engine chooses.
    docker_subnet("docker.subnet"): Option<String> = "";
    /// The port at which agents in containers reach this server, at its address on the bridge of their network and without
    /// TLS; else that of `listen`.
    docker_port("docker.port"): Option<u16> = "";
    /// Who keeps agents in containers from the services of this machine but this server: `skep` does so with rules
    /// of iptables, for which it must run as root; `external` says that there are such rules.
    docker_firewall("docker.firewall"): DockerFirewall = "skep";
    /// A file with logins for registries, as `docker login` writes it (`config.json`), readable for
    /// the server's user alone; without it images are pulled without a login.
    docker_credentials("docker.credentials"): Option<PathBuf> = "";
    /// Make a backup each time that so much time has gone by since the newest; without it backups
    /// are made by order only.
    backup_every("backup.every"): Option<Duration> = "";
    /// Backups that are kept; the oldest go when a new one is done.
    backup_keep("backup.keep"): usize = "7";
    /// The folder of the backups, best on another disk; each server has its own. Default: `backups`
    /// in the data folder.
    backup_to("backup.to"): Option<PathBuf> = "";
    /// Put each backup into this bucket too, such as `s3://name/prefix`; there, too, the newest
    /// `backup.keep` stay. Each server has its own prefix.
    backup_bucket("backup.bucket"): Option<String> = "";
    /// The service that has the bucket, such as `https://minio.example:9000`, when it is not
    /// Amazon's.
    backup_endpoint("backup.endpoint"): Option<String> = "";
    /// The bucket's region.
    backup_region("backup.region"): String = "us-east-1";
    /// The id of the access key to the bucket.
    backup_access_key("backup.access_key"): Option<SecretText> = "";
    /// The secret of the access key to the bucket.
    backup_secret_key("backup.secret_key"): Option<SecretText> = "";
    /// Encrypts every backup; at least 12 characters. Whoever restores one needs it, so keep it
    /// elsewhere too.
    backup_passphrase("backup.passphrase"): Option<SecretText> = "";
    /// The file with the key that opens the vault; the first start makes it. Default: `seal.key` in the data folder.
    /// It is in no backup: keep a copy elsewhere, or add another seal.
    seal_file("seal.file"): Option<PathBuf> = "";
    /// The key that opens the vault, instead of a file.
    seal_key("seal.key"): Option<SecretText> = "";
    /// The passphrase that opens the vault, instead of a key.
    seal_passphrase("seal.passphrase"): Option<SecretText> = "";
    /// The entry of the server's own keychain (Secret Service) with the key that opens the vault, instead of a file;
    /// the first start makes it.
    seal_keychain("seal.keychain"): Option<String> = "";
    /// The key of a cloud that opens the vault: `aws:KEY`, `azure:VAULT/KEY` or `gcp:projects/…/cryptoKeys/KEY`. Who
    /// asks is told by the variables of the cloud's own programs, each with `_FILE` for one in a file.
    seal_kms("seal.kms"): Option<String> = "";
    /// The AES key of a token that opens the vault, such as `pkcs11:token=TOKEN;object=KEY` (RFC 7512).
    seal_pkcs11("seal.pkcs11"): Option<String> = "";
    /// The token's PKCS#11 module, a library that is loaded into the server.
    seal_pkcs11_module("seal.pkcs11_module"): Option<PathBuf> = "";
    /// The token's PIN.
    seal_pkcs11_pin("seal.pkcs11_pin"): Option<SecretText> = "";
    /// Make a key (in the keychain if `seal.keychain` names an entry, else in the file) when nobody has set the vault
    /// up and no key is given; without it the vault waits for `skep vault seals add`.
    seal_auto("seal.auto"): bool = "true";
    /// Whether `/metrics` answers without a key.
    metrics_public("metrics.public"): bool = "false";
}

/// Keys whose value makes no sense at zero.
pub(super) const ABOVE_ZERO: &[&str] = &[
    "limits.body",
    "limits.headers",
    "limits.header_timeout",
    "limits.body_timeout",
    "log.file_size",
    "agents.log_size",
    "backup.every",
    "webhooks.timeout",
    "webhooks.retention",
    "exchanges.retention",
    "runs.retention",
    "runs.depth",
];
