// A hook for React: a conversation with an agent, as it comes.

import { useEffect, useState, useSyncExternalStore } from "react";

import type { Client } from "./client.js";
import { AgentSession, type AgentStreamState, type SessionOptions } from "./session.js";

export type { AgentStreamState, NewMessage, SessionOptions, Status } from "./session.js";

/** With which agent, and how. */
export interface UseAgentStream extends SessionOptions {
  client: Client;
  agent: string;
}

/** What the hook gives: what is shown, and what can be done. The functions stay the same. */
export type AgentStream<S = unknown> = AgentStreamState<S> & Pick<AgentSession<S>, "send" | "resume" | "cancel" | "reset">;

/**
 * A conversation with an agent. Another client, agent or thread is another conversation; the other options count from the next request
 * on. An unmounted component's connection is closed and its run goes on: mounted again, it is followed again.
 */
export function useAgentStream<S = unknown>({ client, agent, ...options }: UseAgentStream): AgentStream<S> {
  const [held, hold] = useState(() => new AgentSession<S>(client, agent, options));
  let session = held;
  if (held.client !== client || held.agent !== agent || held.options.threadId !== options.threadId) {
    session = new AgentSession<S>(client, agent, options);
    hold(session);
  }
  useEffect(() => {
    session.options = options;
  });
  useEffect(() => {
    session.attach();
    return () => session.detach();
  }, [session]);
  const shown = useSyncExternalStore(session.subscribe, session.snapshot, session.snapshot);
  const { send, resume, cancel, reset } = session;
  return { ...shown, send, resume, cancel, reset };
}
