//! Workspaces, people, invitations, sessions.

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use skep_api::{
    AcceptInvitation, ConfirmSecondFactor, CreatedInvitation, CreatedWorkspace, DropLink,
    Invitation, Link, LoggedIn, Login, Me, NewInvitation, NewLink, NewPassword, NewQuota, NewRole,
    NewWorkspace, Page, Password, ProvenLogin, Provider, RecoveryCodes, SecondFactor, Session,
    User, WorkspaceDetail, WorkspaceInfo,
};

use crate::request::{Query, encode};
use crate::{Client, ClientError};

impl Client {
    pub(crate) async fn put_json(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<crate::response::Answer, ClientError> {
        let body = Bytes::from(skep_api::to_json(body));
        self.api(Method::PUT, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.api(Method::DELETE, path, None).await.map(drop)
    }

    /// Who asks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn me(&self) -> Result<Me, ClientError> {
        self.get("/me", &Query::default()).await
    }

    /// Logs a person in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn login(&self, login: &Login) -> Result<LoggedIn, ClientError> {
        self.post_json("/sessions", login).await
    }

    /// Logs a person in by what a browser did for them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn login_proven(&self, login: &ProvenLogin) -> Result<LoggedIn, ClientError> {
        self.post_json("/sessions/proven", login).await
    }

    /// The providers that people log in by.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn providers(&self) -> Result<Page<Provider>, ClientError> {
        self.get("/providers", &Query::default()).await
    }

    /// The accounts at providers that who asks comes in by.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn links(&self) -> Result<Page<Link>, ClientError> {
        self.get("/me/links", &Query::default()).await
    }

    /// Links an account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn link(&self, wish: &NewLink) -> Result<Link, ClientError> {
        self.post_json("/me/links", wish).await
    }

    /// Takes a link away.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unlink(&self, id: &str, wish: &DropLink) -> Result<(), ClientError> {
        let body = Bytes::from(skep_api::to_json(wish));
        let path = format!("/me/links/{}/drop", encode(id));
        self.api(Method::POST, &path, Some(body)).await.map(drop)
    }

    /// The sessions of who asks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sessions(&self) -> Result<Page<Session>, ClientError> {
        self.get("/sessions", &Query::default()).await
    }

    /// Ends a session, `ses_…` or `current`; without an id all of them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn end_session(&self, id: Option<&str>) -> Result<(), ClientError> {
        match id {
            Some(id) => self.delete(&format!("/sessions/{}", encode(id))).await,
            None => self.delete("/sessions").await,
        }
    }

    /// Takes another password.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_password(&self, wish: &NewPassword) -> Result<(), ClientError> {
        self.put_json("/me/password", wish).await.map(drop)
    }

    /// What an authenticator is set up with.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn second_factor(&self) -> Result<SecondFactor, ClientError> {
        self.post("/me/second-factor").await
    }

    /// Wants a code of this authenticator from now on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn confirm_second_factor(
        &self,
        wish: &ConfirmSecondFactor,
    ) -> Result<RecoveryCodes, ClientError> {
        let answer = self.put_json("/me/second-factor", wish).await?;
        self.in_time(answer.json()).await
    }

    /// Wants no code any more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn drop_second_factor(&self, password: &Password) -> Result<(), ClientError> {
        let body = Bytes::from(skep_api::to_json(password));
        let path = "/me/second-factor/drop";
        self.api(Method::POST, path, Some(body)).await.map(drop)
    }

    /// The workspaces of who asks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn workspaces(&self) -> Result<Page<WorkspaceInfo>, ClientError> {
        self.get("/workspaces", &Query::default()).await
    }

    /// Makes a workspace.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_workspace(
        &self,
        wish: &NewWorkspace,
    ) -> Result<CreatedWorkspace, ClientError> {
        self.post_json("/workspaces", wish).await
    }

    /// A workspace with how much it has and may have; another than one's own for who administers the server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn workspace(&self, name: &str) -> Result<WorkspaceDetail, ClientError> {
        let path = format!("/workspaces/{}", encode(name));
        self.get(&path, &Query::default()).await
    }

    /// Says how much a workspace may have.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_quota(
        &self,
        name: &str,
        wish: &NewQuota,
    ) -> Result<WorkspaceDetail, ClientError> {
        let path = format!("/workspaces/{}/quota", encode(name));
        let answer = self.put_json(&path, wish).await?;
        self.in_time(answer.json()).await
    }

    /// Removes the workspace of who asks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_workspace(&self, name: &str) -> Result<(), ClientError> {
        self.delete(&format!("/workspaces/{}", encode(name))).await
    }

    /// The people of the workspace.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn users(&self) -> Result<Page<User>, ClientError> {
        self.get("/users", &Query::default()).await
    }

    /// Gives somebody another role.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_role(&self, id: &str, wish: &NewRole) -> Result<(), ClientError> {
        let path = format!("/users/{}/role", encode(id));
        self.put_json(&path, wish).await.map(drop)
    }

    /// Takes somebody out of the workspace.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_user(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/users/{}", encode(id))).await
    }

    /// The open invitations.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn invitations(&self) -> Result<Page<Invitation>, ClientError> {
        self.get("/invitations", &Query::default()).await
    }

    /// Invites somebody.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn invite(&self, wish: &NewInvitation) -> Result<CreatedInvitation, ClientError> {
        self.post_json("/invitations", wish).await
    }

    /// Takes an invitation back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn withdraw_invitation(&self, id: &str) -> Result<(), ClientError> {
        self.delete(&format!("/invitations/{}", encode(id))).await
    }

    /// Takes an invitation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn accept_invitation(&self, wish: &AcceptInvitation) -> Result<User, ClientError> {
        self.post_json("/invitations/accept", wish).await
    }
}
