/** Every action of the editor by name: menus, shortcuts, palette and buttons run the same one. */

/**
 * @typedef {object} Command
 * @property {string} id such as "edit.undo"
 * @property {string} title what a person reads
 * @property {string} [group] heading on the shortcut sheet
 * @property {string | string[]} [shortcut] such as "Ctrl+Shift+Z"; Ctrl also means ⌘
 * @property {() => boolean} [when] whether it can be run now
 * @property {boolean} [inText] its shortcut counts also while a text is edited
 * @property {boolean} [isHidden] not offered in the palette
 * @property {(argument?: any) => unknown} run
 */

export function createCommands() {
  /** @type {Map<string, Command>} */
  const commands = new Map();
  /** @type {Map<string, Command[]>} */
  const byKey = new Map();

  /** @param {Command[]} added */
  function add(...added) {
    for (const command of added) {
      commands.set(command.id, command);
      for (const shortcut of shortcutsOf(command)) {
        const key = normal(shortcut);
        byKey.set(key, [...(byKey.get(key) ?? []).filter((c) => c.id !== command.id), command]);
      }
    }
  }

  /** @param {string} id */
  function can(id) {
    const command = commands.get(id);
    return command !== undefined && (command.when?.() ?? true);
  }

  return {
    add,
    can,
    list: () => [...commands.values()],
    /** @param {string} id */
    get: (id) => commands.get(id),

    /**
     * @param {string} id
     * @param {any} [argument]
     */
    run: (id, argument) => (can(id) ? commands.get(id)?.run(argument) : undefined),

    /**
     * Run what a key stands for; true when there was something.
     * @param {KeyboardEvent} event
     * @param {boolean} isInText
     */
    onKey(event, isInText) {
      for (const command of byKey.get(keyOf(event)) ?? []) {
        if ((isInText && !command.inText) || !can(command.id)) continue;
        command.run();
        return true;
      }
      return false;
    },
  };
}

/** @typedef {ReturnType<typeof createCommands>} Commands */

/**
 * @param {Command} command
 * @returns {string[]}
 */
export function shortcutsOf({ shortcut }) {
  return shortcut === undefined ? [] : Array.isArray(shortcut) ? shortcut : [shortcut];
}

/**
 * The pressed keys as a shortcut is written.
 * @param {{key: string, code?: string, ctrlKey: boolean, metaKey: boolean, altKey: boolean,
 *   shiftKey: boolean}} event
 */
export function keyOf({ key, code = "", ctrlKey, metaKey, altKey, shiftKey }) {
  // With Alt or Shift held, `key` is what the layout writes; the code tells the key itself.
  const fromCode = /^Key([A-Z])$/.exec(code)?.[1] ?? /^Digit(\d)$/.exec(code)?.[1];
  const name = (altKey || ctrlKey || metaKey) && fromCode ? fromCode : key === " " ? "Space" : key;
  const isSign = name.length === 1 && !/[a-z0-9]/i.test(name);
  const parts = [
    ctrlKey || metaKey ? "Ctrl" : "",
    altKey ? "Alt" : "",
    shiftKey && !isSign ? "Shift" : "",
    name.length === 1 ? name.toUpperCase() : name,
  ];
  return parts.filter(Boolean).join("+");
}

/** @param {string} shortcut */
function normal(shortcut) {
  const parts = shortcut.split(/\+(?=.)/);
  const key = /** @type {string} */ (parts.pop());
  const has = (/** @type {string} */ name) => parts.includes(name);
  return keyOf({
    key,
    ctrlKey: has("Ctrl"),
    metaKey: false,
    altKey: has("Alt"),
    shiftKey: has("Shift"),
  });
}
