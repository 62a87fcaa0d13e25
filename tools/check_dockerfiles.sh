#!/bin/sh
# Holds the rules for docker/Dockerfile* and .dockerignore; builds nothing and needs no docker.
#
#   sh tools/check_dockerfiles.sh [ROOT]      ROOT: the checkout, by default the one that this script is in
#
# Each finding is a line `FILE:LINE: what is wrong`. Exit status: 0 none, 1 some, 2 there is nothing to check.
set -eu
root=${1:-$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)}

# One Dockerfile: instructions are joined over continued lines, then judged one by one and in their order.
check_dockerfile() {
    awk -v file="$1" '
    function find(line, text) { printf "%s:%d: %s\n", file, line, text; found = 1 }

    # The default of each ${NAME} that an ARG before the first FROM gave.
    function resolve(text, name) {
        for (name in args) gsub("[$][{]?" name "[}]?", args[name], text)
        return text
    }

    function from(line, text, parts, count, image, tag, i) {
        count = split(text, parts, /[ \t]+/)
        i = parts[1] ~ /^--/ ? 2 : 1
        image = resolve(parts[i])
        stage_user = 0; stage_health = 0; stage_entry = 0; stage_requirements = 0; stage_copied = ""
        if (!(image in stages) && image != "scratch") {
            tag = image
            sub(/^.*\//, "", tag)
            if (tag !~ /:/ && image !~ /@sha256:/) find(line, "FROM " image ": pin the version with a tag")
            else if (tag ~ /:latest$/) find(line, "FROM " image ": latest is not a version")
        }
        if (tolower(parts[i + 1]) == "as") stages[parts[i + 2]] = 1
        last_from = line
    }

    function run(line, text) {
        if (text ~ /(^|[^-a-z])apt[ \t]+(-[^ \t]+[ \t]+)*(install|update)/) find(line, "RUN apt: use apt-get in scripts")
        if (text ~ /apt-get.*install/) {
            if (text !~ /apt-get[^&;|]*update/) find(line, "RUN apt-get install: update in the same RUN, or a stale list is used")
            if (text !~ /--no-install-recommends/) find(line, "RUN apt-get install: add --no-install-recommends")
            if (text !~ /rm -rf? [^&;|]*\/var\/lib\/apt\/lists/) find(line, "RUN apt-get install: remove /var/lib/apt/lists in the same RUN")
        } else if (text ~ /apt-get.*update/) find(line, "RUN apt-get update: install in the same RUN")
        rest = text
        while (match(rest, /pip3? +install[^&;|]*/)) {
            if (substr(rest, RSTART, RLENGTH) !~ /--no-cache-dir/ && !no_cache) find(line, "RUN pip install: add --no-cache-dir")
            rest = substr(rest, RSTART + RLENGTH)
        }
        if (text ~ /pip3? +install[^&;|]* -r/ && !stage_requirements) {
            stage_requirements = 1
            if (stage_copied != "") find(copied_line, "COPY " stage_copied ": before the requirements are installed; each change of it would install them again")
        }
        if (text ~ /(curl|wget)[^&;]*[|] *(ba|da)?sh/) find(line, "RUN: runs what it downloads without looking at it")
        if (text ~ /(^|[ \t;&|])sudo[ \t]/) find(line, "RUN sudo: it is root already, and must not be able to become it again")
    }

    function copy(line, text, parts, count, i, name) {
        if (text ~ /--from=/) return
        count = split(text, parts, /[ \t]+/)
        for (i = 1; i < count; i++) {
            name = parts[i]
            if (name ~ /^--/) continue
            gsub(/[]["\047,]/, "", name)
            if (name ~ /(^|\/)([.]env[^\/]*|[.]netrc|[.]ssh|[.]aws|[.]git|id_(rsa|ed25519)[^\/]*|[^\/]*[.](pem|key))\/?$/) find(line, "COPY " name ": a secret, or history that may hold one")
            if (name !~ /(requirements|constraints)[^\/]*[.]txt$/ && !stage_requirements && stage_copied == "") { stage_copied = name; copied_line = line }
        }
    }

    function names(line, instruction, text, parts, count, i, name) {
        count = split(text, parts, /[ \t]+/)
        for (i = 1; i <= count; i++) {
            name = parts[i]
            sub(/=.*/, "", name)
            if (parts[i] ~ /^[A-Za-z_][A-Za-z0-9_]*(=|$)/ && toupper(name) ~ /TOKEN|SECRET|PASSW(OR)?D|API_?KEY|PRIVATE_?KEY|CREDENTIAL/) find(line, instruction " " name ": a secret would stay in the image; mount it when it runs")
            if (parts[i] ~ /^PIP_NO_CACHE_DIR=[1-9a-z]/) no_cache = 1
        }
    }

    function judge(line, instruction, text, name) {
        if (match(text, /(hf_|ghp_|sk-)[A-Za-z0-9]+/) && RLENGTH > 20) find(line, instruction ": holds what looks like a key")
        if (instruction == "ARG" && !last_from && text ~ /=/) {
            name = text; sub(/=.*/, "", name); args[name] = substr(text, length(name) + 2)
        }
        if (instruction == "FROM") from(line, text)
        else if (instruction == "RUN") run(line, text)
        else if (instruction == "COPY") copy(line, text)
        else if (instruction == "ARG" || instruction == "ENV") names(line, instruction, text)
        else if (instruction == "ADD") find(line, text ~ /(https?|ftp|git):\/\/|git@/ ? "ADD of a URL: download in a RUN that checks a hash" : "ADD: use COPY, which does one thing")
        else if (instruction == "USER") { stage_user = line; user = text }
        else if (instruction == "HEALTHCHECK") stage_health = line
        else if (instruction == "WORKDIR" && text !~ /^["$\/]/) find(line, "WORKDIR " text ": must be absolute")
        if (instruction == "ENTRYPOINT" || instruction == "CMD") {
            if (text !~ /^\[/) find(line, instruction ": write it as [\"word\", ...], or signals do not reach it")
            if (instruction == "ENTRYPOINT") stage_entry = line
        }
    }

    { sub(/\r$/, "") }
    /^[ \t]*#/ || /^[ \t]*$/ { next }
    {
        if (joined == "") start = FNR
        is_continued = sub(/\\[ \t]*$/, "")
        joined = joined " " $0
        if (is_continued) next
        sub(/^[ \t]+/, "", joined)
        instruction = joined; sub(/[ \t].*/, "", instruction)
        text = substr(joined, length(instruction) + 1); gsub(/^[ \t]+|[ \t]+$/, "", text)
        judge(start, toupper(instruction), text)
        joined = ""
    }
    END {
        if (!last_from) find(1, "no FROM: is it a Dockerfile?")
        else {
            if (!stage_user) find(last_from, "the last stage has no USER: it would run as root")
            else if (user ~ /^(root|0)(:|$)/) find(stage_user, "USER " user ": the last stage must not run as root")
            if (!stage_entry) find(last_from, "the last stage has no ENTRYPOINT")
            if (!stage_health) find(last_from, "the last stage has no HEALTHCHECK: say how it is seen to live, or HEALTHCHECK NONE and why")
        }
        exit found
    }' "$1"
}

# Whether .dockerignore keeps these out of the build: weights, songs, secrets, history. Later patterns win.
check_dockerignore() {
    awk -v file="$1" '
    function pattern_of(text) {
        gsub(/^\/|\/$/, "", text)
        gsub(/[.+(){}|^$]/, "\\\\&", text)
        gsub(/\*\*\//, "\001", text); gsub(/\*\*/, "\002", text); gsub(/\*/, "[^/]*", text); gsub(/\?/, "[^/]", text)
        gsub(/\001/, "(.*/)?", text); gsub(/\002/, ".*", text)
        return "^" text "(/.*)?$"
    }
    /^[ \t]*(#|$)/ { next }
    { sub(/[ \t\r]+$/, ""); rules[++count] = $0 }
    END {
        total = split("models/base/model.pt models/runtime/ckpt/vae.ckpt ckpt/x/model.safetensors runtime/a.pth model.safetensors songgen/model.pt output/audio/a.wav output2/tokens/a.safetensors outputs/a.flac .git/config .venv/bin/python .env songgen/.env songgen/__pycache__/cli.pyc", probes, " ")
        for (i = 1; i <= total; i++) {
            is_out = 0
            for (rule = 1; rule <= count; rule++) {
                text = rules[rule]
                keeps = sub(/^!/, "", text)
                if (probes[i] ~ pattern_of(text)) is_out = !keeps
            }
            if (!is_out) { printf "%s:1: %s would be sent to the build\n", file, probes[i]; found = 1 }
        }
        exit found
    }' "$1"
}

status=0 num_files=0
for dockerfile in "$root"/docker/Dockerfile* "$root"/Dockerfile*; do
    [ -f "$dockerfile" ] || continue
    num_files=$((num_files + 1))
    check_dockerfile "$dockerfile" || status=1
done
if [ "$num_files" -eq 0 ]; then
    echo "$root: no docker/Dockerfile* to check" >&2
    exit 2
fi
if [ -f "$root/.dockerignore" ]; then
    check_dockerignore "$root/.dockerignore" || status=1
else
    echo "$root/.dockerignore:1: not there; weights and songs would be sent to the build"
    status=1
fi
exit "$status"
