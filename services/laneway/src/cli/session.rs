//! `laneway session …`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use laneway_contract::{
    AppendMessages, AppendReply, Backend, ChangeSession, Content, CreateSession, Endpoint, GetSession, ListSessions,
    MemoryPolicy, MessagePage, MessageView, Mode, ModelId, NewMessage, ReadMessages, SessionId, SessionPage,
    SessionReply, SessionState,
};

use super::Context;
use super::request::{Draft, label, text_argument};
use crate::client::Client;
use crate::exit::{CliError, Exit};
use crate::output;

/// Verbs about sessions.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// Creates a session.
    Create(CreateArgs),
    /// Lists sessions, oldest first.
    List(ListArgs),
    /// Shows one session.
    Show {
        /// The session.
        session: SessionId,
    },
    /// Shows the messages of a session.
    Messages(MessagesArgs),
    /// Appends USER messages, without starting a run.
    Append(AppendArgs),
    /// Keeps the session's queued runs from starting.
    Pause {
        /// The session and the reason.
        #[command(flatten)]
        change: ChangeArgs,
        /// Cancel the executing run too.
        #[arg(long)]
        interrupt: bool,
    },
    /// Lets a paused session go on.
    Resume(ChangeArgs),
    /// Ends the session as COMPLETED; refused while it has runs.
    Complete {
        /// The session and the reason.
        #[command(flatten)]
        change: ChangeArgs,
        /// Cancel what is queued or executing instead of refusing.
        #[arg(long)]
        cancel_runs: bool,
    },
    /// Ends the session as FAILED, cancelling its runs.
    Fail(ChangeArgs),
    /// Ends the session as CANCELLED, cancelling its runs.
    Cancel(ChangeArgs),
}

/// Arguments of `session create`.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// The model, as echo/default; required unless the request has it.
    #[arg(value_parser = ModelId::parse)]
    model: Option<ModelId>,
    /// The session's id, which makes a repeat safe [default: a new one].
    #[arg(long)]
    id: Option<SessionId>,
    /// EPHEMERAL, SESSION_SCOPED or WORKSPACE_SCOPED; never changes [default: SESSION_SCOPED].
    #[arg(long)]
    memory_policy: Option<MemoryPolicy>,
    /// ONE_SHOT or SESSION_PERSISTENT [default: SESSION_PERSISTENT].
    #[arg(long)]
    mode: Option<Mode>,
    /// LOCAL or CLOUD [default: the provider's].
    #[arg(long)]
    backend: Option<Backend>,
    /// The session's role [default: orchestrator].
    #[arg(long)]
    role: Option<String>,
    /// The SYSTEM message; `-` reads it from stdin.
    #[arg(long, value_name = "TEXT")]
    instructions: Option<String>,
    /// The session that spawned this one.
    #[arg(long)]
    parent: Option<SessionId>,
    /// Work packet.
    #[arg(long, value_name = "ID")]
    wp: Option<String>,
    /// Micro-task.
    #[arg(long, value_name = "ID")]
    mt: Option<String>,
    /// A label of your own; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The whole request as a JSON file, `-` for stdin; flags win over it.
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
}

/// Arguments of `session list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Only this state.
    #[arg(long)]
    state: Option<SessionState>,
    /// Only this work packet.
    #[arg(long, value_name = "ID")]
    wp: Option<String>,
    /// Only this role.
    #[arg(long)]
    role: Option<String>,
    /// Only sessions with this label; may be given again.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Rows, at most 1,000.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Where the page before ended.
    #[arg(long)]
    cursor: Option<String>,
}

/// Arguments of `session messages`.
#[derive(Args, Debug)]
pub struct MessagesArgs {
    /// The session.
    session: SessionId,
    /// First message, from 1.
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Last message.
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Leave the content out.
    #[arg(long)]
    no_content: bool,
}

/// Arguments of `session append`.
#[derive(Args, Debug)]
pub struct AppendArgs {
    /// The session.
    session: SessionId,
    /// One message each; `-` reads one from stdin.
    #[arg(required = true)]
    texts: Vec<String>,
    /// Makes a repeat safe.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Refuse unless this is the last message.
    #[arg(long, value_name = "SEQ")]
    expected_tail: Option<u64>,
}

/// Arguments of the verbs that change a session's state.
#[derive(Args, Debug)]
pub struct ChangeArgs {
    /// The session.
    session: SessionId,
    /// Why, at most 128 bytes.
    #[arg(long, default_value = "")]
    reason: String,
}

pub(super) async fn run(context: &Context, command: SessionCommand) -> Result<Exit, CliError> {
    let client = context.client().await?;
    match command {
        SessionCommand::Create(args) => create(context, &client, args).await,
        SessionCommand::List(args) => list(context, &client, args).await,
        SessionCommand::Show { session } => {
            let request = GetSession { session_id: session, min_seq: None };
            show(context, &client.ask(Endpoint::SessionsGet, &request).await?)
        }
        SessionCommand::Messages(args) => messages(context, &client, &args).await,
        SessionCommand::Append(args) => append(context, &client, args).await,
        SessionCommand::Pause { change, interrupt } => {
            let request = ChangeSession { interrupt, ..request(context, change) };
            send(context, &client, Endpoint::SessionsPause, &request).await
        }
        SessionCommand::Complete { change, cancel_runs } => {
            let request = ChangeSession { cancel_runs, ..request(context, change) };
            send(context, &client, Endpoint::SessionsComplete, &request).await
        }
        SessionCommand::Resume(change) => {
            send(context, &client, Endpoint::SessionsResume, &request(context, change)).await
        }
        SessionCommand::Fail(change) => send(context, &client, Endpoint::SessionsFail, &request(context, change)).await,
        SessionCommand::Cancel(change) => {
            send(context, &client, Endpoint::SessionsCancel, &request(context, change)).await
        }
    }
}

fn show(context: &Context, reply: &SessionReply) -> Result<Exit, CliError> {
    context.out.reply(reply, |reply| output::fields(&reply.session))?;
    Ok(Exit::Done)
}

async fn create(context: &Context, client: &Client, args: CreateArgs) -> Result<Exit, CliError> {
    let request = create_request(args)?;
    let reply: SessionReply = client.ask(Endpoint::SessionsCreate, &request).await?;
    context.out.reply(&reply, |reply| reply.session.session_id.to_string())?;
    Ok(Exit::Done)
}

/// The request of `session create`. Its id is fixed here, so that sending it again is safe.
fn create_request(args: CreateArgs) -> Result<CreateSession, CliError> {
    let mut draft = Draft::from_file(args.request.as_deref())?;
    let instructions = args.instructions.as_deref().map(text_argument).transpose()?;
    let labels: BTreeMap<_, _> = args.labels.into_iter().collect();
    draft
        .set("model_id", args.model)?
        .set("session_id", args.id)?
        .set("memory_policy", args.memory_policy)?
        .set("mode", args.mode)?
        .set("backend", args.backend)?
        .set("role", args.role)?
        .set("instructions", instructions.map(Content::Text))?
        .set("parent_session_id", args.parent)?
        .set("wp_id", args.wp)?
        .set("mt_id", args.mt)?
        .set("labels", (!labels.is_empty()).then_some(labels))?
        .default_to("memory_policy", MemoryPolicy::SessionScoped.as_str())
        .default_to("session_id", SessionId::generate().to_string());
    draft.read()
}

async fn list(context: &Context, client: &Client, args: ListArgs) -> Result<Exit, CliError> {
    let request = ListSessions {
        state: args.state,
        wp_id: args.wp,
        role: args.role,
        labels: args.labels.into_iter().collect(),
        limit: Some(args.limit),
        cursor: args.cursor,
        min_seq: None,
    };
    let page: SessionPage = client.ask(Endpoint::SessionsList, &request).await?;
    context.out.reply(&page, |page| output::sessions_table(&page.sessions))?;
    if let Some(cursor) = &page.cursor {
        context.out.note(format!("more with --cursor {cursor}"))?;
    }
    Ok(Exit::Done)
}

async fn messages(context: &Context, client: &Client, args: &MessagesArgs) -> Result<Exit, CliError> {
    let mut from_seq = args.from;
    loop {
        let request = ReadMessages {
            session_id: args.session,
            from_seq,
            to_seq: args.to,
            with_content: !args.no_content,
            limit: None,
            min_seq: None,
        };
        let page: MessagePage = client.ask(Endpoint::SessionsMessages, &request).await?;
        if context.out.is_json() {
            page.messages.iter().try_for_each(|message| context.out.value(message))?;
        } else if args.no_content {
            context.out.line(message_table(&page.messages))?;
        } else {
            page.messages.iter().try_for_each(|view| context.out.line(message_text(view)))?;
        }
        if page.next_seq.is_none() {
            return Ok(Exit::Done);
        }
        from_seq = page.next_seq;
    }
}

fn message_text(view: &MessageView) -> String {
    let message = &view.message;
    let finish = message.finish.map(|finish| format!(", {finish}")).unwrap_or_default();
    let content = view.content.clone().unwrap_or_else(|| format!("[{} bytes {}]", message.size, message.content_type));
    format!("{:>3} {}{finish}  {}\n{}\n", message.seq, message.role, message.timestamp, content.trim_end())
}

fn message_table(messages: &[MessageView]) -> String {
    output::table(
        ["SEQ", "ROLE", "FINISH", "BYTES", "TOKENS", "TIME", "MESSAGE", "CONTENT HASH"],
        messages.iter().map(|view| {
            let message = &view.message;
            [
                message.seq.to_string(),
                message.role.to_string(),
                output::or_dash(message.finish),
                message.size.to_string(),
                output::or_dash(message.token_count),
                message.timestamp.to_string(),
                message.message_id.to_string(),
                message.content_hash.to_string(),
            ]
        }),
    )
}

async fn append(context: &Context, client: &Client, args: AppendArgs) -> Result<Exit, CliError> {
    let messages = args.texts.iter().map(|text| {
        Ok(NewMessage {
            // Fixed here, so that sending the request again appends nothing twice.
            message_id: args.key.is_none().then(laneway_contract::MessageId::generate),
            role: None,
            content: Content::Text(text_argument(text)?),
            content_type: None,
            tool_call_id: None,
            attachments: Vec::new(),
            source: None,
        })
    });
    let request = AppendMessages {
        session_id: args.session,
        messages: messages.collect::<Result<_, CliError>>()?,
        idempotency_key: args.key,
        expected_tail: args.expected_tail,
    };
    let reply: AppendReply = client.ask(Endpoint::SessionsAppend, &request).await?;
    context.out.reply(&reply, |reply| {
        let repeated = if reply.repeated { " (the same request was taken before)" } else { "" };
        match reply.last_seq - reply.first_seq {
            0 => format!("message {}{repeated}", reply.first_seq),
            _ => format!("messages {} to {}{repeated}", reply.first_seq, reply.last_seq),
        }
    })?;
    Ok(Exit::Done)
}

/// The request of the verbs that change a session's state.
fn request(context: &Context, args: ChangeArgs) -> ChangeSession {
    ChangeSession {
        session_id: args.session,
        actor: context.actor.clone(),
        reason: args.reason,
        cancel_runs: false,
        interrupt: false,
    }
}

async fn send(
    context: &Context,
    client: &Client,
    endpoint: Endpoint,
    request: &ChangeSession,
) -> Result<Exit, CliError> {
    let reply: SessionReply = client.ask(endpoint, request).await?;
    context.out.reply(&reply, |reply| format!("{} is {}", reply.session.session_id, reply.session.status.state))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests;
