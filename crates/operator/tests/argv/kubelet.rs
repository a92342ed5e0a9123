//! What the kubelet makes of a word of a pod's command or args, by the Kubernetes documentation
//! ("Define dependent environment variables", and the API reference of `container.command`).

/// Replaces `$(NAME)` by the value of a variable that is there, and `$$` by `$`; everything else stays.
pub(crate) fn expand(word: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) =
            after.strip_prefix('(').and_then(|it| it.split_once(')'))
        {
            // A variable that is not there is left as it was written.
            expanded.push_str(&value(name).unwrap_or_else(|| format!("$({name})")));
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded + rest
}

#[test]
fn references_are_replaced_unless_they_are_escaped_or_unknown() {
    let value = |name: &str| (name == "A").then(|| "1".to_owned());
    for (word, expected) in [
        ("$(A)-$(A)", "1-1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(B)", "$(B)"),
        ("$A $ $(A", "$A $ $(A"),
        ("$(", "$("),
        ("$", "$"),
    ] {
        assert_eq!(expand(word, value), expected, "{word}");
    }
}
