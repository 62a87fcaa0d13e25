(text, tags) => {
  // The description with exactly these tags of one dimension, all others as they were, in their order.
  const isOurs = (tag) => /^(?:@PATTERN@)$/i.test(tag);
  const isIn = (list, tag) => list.some((other) => other.toLowerCase() === tag.toLowerCase());
  const wanted = [tags].flat().map((tag) => "@PREFIX@" + tag.trim()).filter(isOurs);
  const all = text.split(",").map((tag) => tag.trim()).filter((tag) => tag);
  const kept = all.filter((tag) => !isOurs(tag) || isIn(wanted, tag));
  const added = wanted.filter((tag) => !isIn(kept, tag));
  return added.length || kept.length < all.length ? [...kept, ...added].join(", ") : { __type__: "update" };
}
