/** Tells what a person should know of; `facts` are for programs. */
export type AgentNote = (
  level: 'info' | 'warning' | 'error',
  message: string,
  facts: { readonly topic: string } & Readonly<Record<string, unknown>>,
) => void;
