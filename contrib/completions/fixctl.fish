# SPDX-License-Identifier: MIT
# Completion of fixctl for fish: what its help says it takes, and the fixtures of the daemon that it would ask.

function __fixctl_command
    set -l skip 0
    for word in (commandline -opc)[2..]
        if test $skip = 1
            set skip 0
            continue
        end
        switch $word
            case -s --socket -S --session
                set skip 1
            case '-*'
            case '*'
                echo $word
                return 0
        end
    end
    return 1
end

function __fixctl_options
    set -l command (__fixctl_command)
    if test -n "$command"
        fixctl help $command 2>/dev/null
    else
        fixctl --help
    end | string match -r -a -- '--[a-z][a-z-]*' | sort -u
end

# Its usage says whether it takes the names of fixtures.
function __fixctl_takes_fixtures
    set -l command (__fixctl_command)
    and fixctl help $command 2>/dev/null | head -n 1 | string match -q '*NAME*'
end

complete -c fixctl -n 'not __fixctl_command' -f -a 'help (fixctl --help | string replace -r -f "^  ([a-z]+) .*" "\$1")'
complete -c fixctl -n 'string match -q -- "-*" (commandline -ct)' -f -a '(__fixctl_options)'
complete -c fixctl -n '__fixctl_takes_fixtures' -f -a '(timeout 2 fixctl list --json 2>/dev/null | string replace -r -f ".*\"name\": \"([^\"]*)\".*" "\$1")'
