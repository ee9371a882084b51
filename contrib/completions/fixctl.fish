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

# With what the help says of each; then those that it only mentions.
function __fixctl_options
    set -l command (__fixctl_command)
    set -l said (test -n "$command"; and fixctl help $command 2>/dev/null; or fixctl --help)
    test -n "$command"; and string replace -r -f '^ +(?:-[a-zA-Z], )?(--[a-z-]+)\S*(?: \S+)?  +(.*)' '$1\t$2' -- $said
    string match -r -a -- '--[a-z][a-z-]*' $said | sort -u
end

# What the option before it takes, as the help says: one of some words, or a fixture.
function __fixctl_takes
    set -l command (__fixctl_command)
    and fixctl help $command 2>/dev/null | string replace -r -f '^ +(-[a-zA-Z])?,? *(--[a-z-]+) (\S+)  .*' ' $1 $2 : $3' |
        string replace -r -f '^.* '(string escape --style=regex -- (commandline -opc)[-1])' .*: ' ''
end

function __fixctl_usage
    set -l command (__fixctl_command)
    and fixctl help $command 2>/dev/null | head -n 1
end

# What it does is one of "[one | two NAME...]", unless it has been said.
function __fixctl_does
    set -l does (__fixctl_usage | string match -r -a '(?:\[|\| )[a-z]+' | string trim -c '[| ')
    for word in (commandline -opc)
        contains -- $word $does; and return
    end
    printf '%s\n' $does
end

# Its usage says whether it takes the names of fixtures, or what it does does.
function __fixctl_takes_fixtures
    set -l usage (__fixctl_usage)
    set -l does (string match -r -a '(?:\[|\| )[a-z]+' -- $usage | string trim -c '[| ')
    for word in (commandline -opc)
        if contains -- $word $does
            set usage (string split ' | ' -- $usage | string match -- "*$word*")
            set does
        end
    end
    test -z "$does"; and string match -q '*NAME*' -- $usage
end

# The values of --option=one|two.
function __fixctl_values
    set -l option (commandline -ct | string match -r -- '^--[a-z-]+=')
    and __fixctl_usage | string match -r -g -- "$option([a-z|]+)" | string split '|' | string replace -r -- '^' "$option"
end

# The options before the command that say which daemon.
function __fixctl_daemon
    set -l words (commandline -opc)
    for i in (seq 2 (count $words))
        contains -- $words[$i] -s --socket -S --session; and printf '%s\n' $words[$i] $words[(math $i + 1)]
        string match -q -r -- '^--(socket|session)=' $words[$i]; and printf '%s\n' $words[$i]
    end
end

function __fixctl_behind_dashes
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    and complete -C (string join ' ' -- $words[(math $at + 1)..] (commandline -ct))
end

complete -c fixctl -n 'not __fixctl_command' -f -a 'help (fixctl --help | string replace -r -f "^  ([a-z]+) +(.*)" "\$1\t\$2")'
complete -c fixctl -n 'test "$(__fixctl_command)" = help' -f -a '(fixctl --help | string replace -r -f "^  ([a-z]+) +(.*)" "\$1\t\$2")'
complete -c fixctl -n 'string match -q -- "-*" (commandline -ct)' -f -a '(__fixctl_options)'
complete -c fixctl -n 'string match -q -- "--*=*" (commandline -ct)' -f -a '(__fixctl_values)'
complete -c fixctl -n 'test (count (__fixctl_does)) -gt 0' -f -a '(__fixctl_does)'
complete -c fixctl -n 'string match -q "*|*" -- (__fixctl_takes)' -f -a '(__fixctl_takes | string split "|")'
complete -c fixctl -n '__fixctl_takes_fixtures; or test "$(__fixctl_takes)" = GLOB' -f -a '(timeout 2 fixctl (__fixctl_daemon) list --json 2>/dev/null | string replace -r -f ".*\"name\": \"([^\"]*)\".*" "\$1")'
# What is run by it is completed like any command.
complete -c fixctl -n 'contains -- -- (commandline -opc)' -f -a '(__fixctl_behind_dashes)'
