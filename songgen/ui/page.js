(text) => {
  // Puts a section tag where the cursor is, on a line of its own, and the cursor behind it.
  const area = document.querySelector("#sg-lyrics textarea");
  const at = area ? area.selectionStart : text.length;
  const before = text.slice(0, at).trimEnd();
  const after = text.slice(at).trimStart();
  const head = (before ? before + "\n" : "") + "@INSERT@";
  setTimeout(() => {
    area.focus();
    area.setSelectionRange(head.length, head.length);
  }, 60);
  return head + (after ? "\n" + after : "");
}
