import type { CommandNode } from './command-tree.ts';

export const shells = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof shells)[number];

/** The script a shell reads: every word stands in it, so that pressing Tab starts no program. */
export function completionScript(shell: Shell, tree: readonly CommandNode[]): string {
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](tree);
}

const key = (node: CommandNode): string => node.path.join(' ');

/** Options whose next word is their value: it is no part of the command. */
function valueOptions(tree: readonly CommandNode[]): readonly string[] {
  const names = tree.flatMap(node =>
    node.options.filter(option => option.takesValue).map(option => option.name),
  );
  return [...new Set(names)].sort();
}

/** Finds the command that the words before the cursor name; the same loop does for bash and zsh (where `path` is taken). */
function pathLoop(tree: readonly CommandNode[], words: string): string {
  return `  local at="" word skip=0
  for word in ${words}; do
    if [ "$skip" = 1 ]; then skip=0; continue; fi
    case $word in
      ${valueOptions(tree).join('|')}) skip=1 ;;
      -*) ;;
      *) at="$at\${at:+ }$word" ;;
    esac
  done
`;
}

function bashScript(tree: readonly CommandNode[]): string {
  const cases = tree.map(node => {
    const words = [...node.commands, ...node.options].map(item => item.name).join(' ');
    return `    '${key(node)}') COMPREPLY=($(compgen -W '${words}' -- "$current")) ;;\n`;
  });
  return `# bash completion for aishell: source <(aishell completion bash)
_aishell() {
  local current=\${COMP_WORDS[COMP_CWORD]}
${pathLoop(tree, '"${COMP_WORDS[@]:1:COMP_CWORD-1}"')}  COMPREPLY=()
  if [ "$skip" = 1 ]; then return; fi
  case $at in
${cases.join('')}  esac
}
complete -o default -F _aishell aishell
`;
}

function zshScript(tree: readonly CommandNode[]): string {
  const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;
  const cases = tree.map(node => {
    const items = [...node.commands, ...node.options].map(item =>
      quote(`${item.name.replaceAll(':', '\\:')}:${item.description}`),
    );
    return `    ${quote(key(node))}) items=(${items.join(' ')}) ;;\n`;
  });
  return `#compdef aishell
# zsh completion for aishell: aishell completion zsh > "\${fpath[1]}/_aishell"
_aishell() {
  local -a items
${pathLoop(tree, '"${(@)words[2,CURRENT-1]}"')}  if [ "$skip" = 1 ]; then _files; return; fi
  case $at in
${cases.join('')}    *) _files; return ;;
  esac
  _describe 'aishell' items
}
if [ "$funcstack[1]" = _aishell ]; then _aishell "$@"; else compdef _aishell aishell; fi
`;
}

function fishScript(tree: readonly CommandNode[]): string {
  const quote = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = tree.flatMap(node => {
    const condition = `-n ${quote(`__aishell_at ${quote(key(node))}`)}`;
    return [
      ...node.commands.map(
        item => `complete -c aishell -f ${condition} -a ${item.name} -d ${quote(item.description)}`,
      ),
      ...node.options.map(option => {
        const value = option.takesValue ? ' -r' : '';
        return `complete -c aishell ${condition} -l ${option.name.slice(2)}${value} -d ${quote(option.description)}`;
      }),
    ];
  });
  return `# fish completion for aishell: aishell completion fish > ~/.config/fish/completions/aishell.fish
function __aishell_at
    set -l at
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case ${valueOptions(tree).join(' ')}
                set skip 1
            case '-*'
            case '*'
                set -a at $word
        end
    end
    test "$at" = "$argv[1]"
end
${lines.join('\n')}
`;
}
