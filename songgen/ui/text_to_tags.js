(text, tempo) => {
  // The tags of the description by dimension, and its tempo; a tempo that is still being typed stays.
  const tags = text.split(",").map((tag) => tag.trim().toLowerCase());
  const groups = @GROUPS@.map((known) => known.filter((tag) => tags.includes(tag.toLowerCase())));
  const found = tags.map((tag) => /^the bpm is (\d{2,3})$/.exec(tag)).find((match) => match);
  const typed = document.querySelector("#sg-bpm input, #sg-bpm textarea")?.value ?? tempo;  // by now
  return [...groups, found ? found[1] : /^\d{2,3}$/.test(tempo) ? "" : typed];
}
