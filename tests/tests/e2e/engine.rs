//! What a test's server stores its rows in: the same tests hold on each engine.

use skep_tests::postgres::Postgres;
use skep_tests::{Server, Setup};

/// An engine of the store, which lasts as long as the test.
pub(crate) enum Engine {
    Sqlite,
    Postgres(Postgres),
}

impl Engine {
    pub(crate) fn postgres() -> Self {
        Self::Postgres(Postgres::start())
    }

    /// How a server on it is started, with these variables.
    pub(crate) fn setup(&self, env: &[(&str, &str)]) -> Setup {
        let mut setup = match self {
            Self::Sqlite => Setup::default(),
            Self::Postgres(postgres) => crate::postgres::on(postgres),
        };
        let own = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        setup.env.extend(own);
        setup
    }

    /// A server on it.
    pub(crate) async fn server(&self) -> Server {
        Server::start_with(self.setup(&[])).await
    }

    /// What a statement tells, done behind the back of a server that has ended.
    pub(crate) fn ask(&self, server: &Server, sql: &str) -> String {
        match self {
            Self::Postgres(postgres) => postgres.ask(sql).trim().to_owned(),
            Self::Sqlite => {
                let path = server.data().join("skep.db");
                let db = rusqlite::Connection::open(path).expect("a database");
                let mut statement = db.prepare(sql).expect("a statement");
                let mut rows = statement.query([]).expect("rows");
                let mut told = String::new();
                while let Some(row) = rows.next().expect("a row") {
                    let value: rusqlite::types::Value = row.get(0).expect("a column");
                    match value {
                        rusqlite::types::Value::Integer(number) => {
                            told.push_str(&number.to_string());
                        }
                        rusqlite::types::Value::Text(text) => told.push_str(&text),
                        other => panic!("{other:?}"),
                    }
                }
                told
            }
        }
    }

    /// Whether a text is anywhere in what a server that has ended has stored: with SQLite in any byte of the files,
    /// with PostgreSQL in any row.
    pub(crate) fn has(&self, server: &Server, text: &str) -> bool {
        match self {
            Self::Sqlite => ["skep.db", "skep.db-wal"].iter().any(|file| {
                let bytes = std::fs::read(server.data().join(file)).unwrap_or_default();
                bytes.windows(text.len()).any(|it| it == text.as_bytes())
            }),
            Self::Postgres(postgres) => {
                let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
                let tables = postgres.ask("SELECT relname FROM pg_stat_user_tables");
                let tables: Vec<&str> = tables.lines().filter(|name| !name.is_empty()).collect();
                assert!(tables.contains(&"audit_batches"), "{tables:?}");
                tables.iter().any(|table| {
                    let sql = format!(
                        "SELECT count(*) FROM {table} t \
                         WHERE t::text LIKE '%{text}%' OR t::text LIKE '%{hex}%'"
                    );
                    postgres.ask(&sql).trim() != "0"
                })
            }
        }
    }
}

/// The same tests on each engine: functions that take an [`Engine`].
macro_rules! on_each_engine {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::engine::Engine::Sqlite).await;
                }
            )+
        }
        mod postgresql {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::engine::Engine::postgres()).await;
                }
            )+
        }
    };
}
pub(crate) use on_each_engine;
