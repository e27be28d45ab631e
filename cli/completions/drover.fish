# SPDX-License-Identifier: Apache-2.0
# fish completion for drover(1)

# Are these the first words after drover?
function __drover_at
    set -l words (commandline -opc)
    set -e words[1]
    string match -q -- "$argv *" "$words "
end

# Are these all of them?
function __drover_after
    test (count (commandline -opc)) -eq (math 1 + (count $argv)); and __drover_at $argv
end

# __drover_option COMMAND... -- ...: an option or operand of each of these commands, as complete(1) takes it.
function __drover_option
    set -l rest (contains -i -- -- $argv)
    for command in $argv[1..(math $rest - 1)]
        complete -c drover -n "__drover_at $command" $argv[(math $rest + 1)..-1]
    end
end

complete -c drover -f
complete -c drover -n __drover_after -l version -d 'Show the version'
complete -c drover -n __drover_after -l help -d 'Show the commands'
complete -c drover -n __drover_after -a help -d 'Show what a command takes'
for words in '' help
    complete -c drover -n "__drover_after $words" -a sync -d 'Make one tree equal to another'
    complete -c drover -n "__drover_after $words" -a verify -d 'Read two trees, tell every difference'
    complete -c drover -n "__drover_after $words" -a manifest -d 'Write down what a tree holds, and check it later'
    complete -c drover -n "__drover_after $words" -a bench -d 'Measure a tree and where it is to go'
    complete -c drover -n "__drover_after $words" -a ctl -d 'Show and adjust what runs'
    complete -c drover -n "__drover_after $words" -a serve -d 'Be the other side for other machines'
    complete -c drover -n "__drover_after $words" -a keygen -d 'Make a key or a certificate for drover://'
end
for words in manifest 'help manifest'
    complete -c drover -n "__drover_after $words" -a create -d 'Read a tree, write down what it holds'
    complete -c drover -n "__drover_after $words" -a check -d 'Read a tree again, compare it with a manifest'
    complete -c drover -n "__drover_after $words" -a diff -d 'Compare two manifests'
    complete -c drover -n "__drover_after $words" -a info -d 'What a manifest is of, and its root digest'
    complete -c drover -n "__drover_after $words" -a export -d 'Write a manifest in a form that others read'
end
complete -c drover -n '__drover_after manifest' -l help -d 'Show the commands'

set -l scans verify 'manifest create' 'manifest check'
set -l comparisons verify 'manifest check' 'manifest diff'
set -l runs sync $scans 'manifest diff'

# Which entries take part, and load
__drover_option sync $scans -- -l exclude -x -d 'Leave out what matches'
__drover_option sync $scans -- -l include -x -d 'Do not leave out what matches'
__drover_option sync $scans -- -l exclude-from -r -F -d 'Patterns from a file'
__drover_option sync $scans bench -- -s x -l one-file-system -d 'Do not enter file systems mounted below'
__drover_option sync $scans -- -s j -l jobs -x -a auto -d 'Do so many things at once'
__drover_option sync $scans bench -- -l io -x -a 'auto uring threads' -d 'How reads and writes are kept in flight'
__drover_option sync $scans bench -- -l bwlimit -x -d 'No more than so much per second'
__drover_option sync $scans -- -l bwlimit-schedule -x -d 'The same by the clock'
__drover_option sync $scans -- -l max-latency -x -d 'Less at once while the storage takes longer'
__drover_option sync $scans -- -l max-load -x -d 'Less at once while the load of the machine is above'
__drover_option sync $scans -- -l explain-tuning -d 'Tell what is tuned, and why'
__drover_option sync $scans -- -l job -x -d 'What drover ctl calls this run'
__drover_option $scans -- -l idle -d 'Only when nobody else wants processor or disk'

# Over a network
__drover_option sync $scans bench -- -s e -l rsh -x -a '(__fish_complete_subcommand)' -d 'Start this in place of ssh'
__drover_option sync $scans bench -- -l remote-drover -x -d 'What drover is called over there'
__drover_option sync $scans -- -l via-ssh -d 'No direct connections beside that of ssh'
__drover_option sync $scans -- -l key -r -F -d 'The key for drover://'
__drover_option sync $scans keygen -- -l certificate -r -F -d 'A certificate for drover://'
__drover_option sync $scans keygen -- -l private-key -r -F -d 'Its private key'
__drover_option sync $scans -- -l authorities -r -F -d 'Whose certificates are trusted'
__drover_option sync $scans -- -l insecure-plain -d 'drover:// without encryption'
__drover_option sync $scans -- -l connections -x -d 'Spread over so many connections'
__drover_option sync $scans -- -s z -l compress -d 'Compress all'
__drover_option sync $scans -- -l compress-level -x -d 'Compress all, from 1 (fast) to 19'
__drover_option sync $scans -- -l no-compress -d 'Never compress'
__drover_option sync $scans -- -l timeout -x -d 'Wait so many seconds for a side that is gone'

# What is shown
__drover_option $runs -- -s v -l verbose -d 'Show more: names of changes, and notes'
__drover_option $runs bench -- -s q -l quiet -d 'Show errors and findings only'
__drover_option $runs -- -l stats -d 'Show all figures at the end'
__drover_option $runs bench -- -l json -d 'Tell everything in JSON'
__drover_option $runs -- -l log-file -r -F -d 'Append all that happens to a file'
__drover_option $runs 'manifest info' 'manifest export' bench ctl serve keygen -- -l help -d 'Show the options'

# What is not compared
__drover_option $comparisons -- -l ignore -x -a '(__fish_append , owner mode times acl xattr flags)' -d 'Do not compare these'
__drover_option $comparisons -- -l no-owner -d 'Do not compare owners and groups'
__drover_option $comparisons -- -l no-perms -d 'Do not compare mode bits and ACLs'
__drover_option $comparisons -- -l no-times -d 'Do not compare times'
__drover_option $comparisons -- -l no-acl -d 'Do not compare ACLs'
__drover_option $comparisons -- -l no-xattr -d 'Do not compare extended attributes'

# sync
__drover_option sync -- -a '(__fish_complete_directories)'
__drover_option sync -- -l checksum -d 'Compare contents, not size and time'
__drover_option sync -- -l size-only -d 'Compare sizes, not times'
__drover_option sync -- -l ignore-existing -d 'Leave files alone that DST has already'
__drover_option sync -- -s u -l update -d 'Leave files alone that are newer in DST'
__drover_option sync -- -s W -l whole-file -d 'Write changed files anew, not just what changed'
__drover_option sync -- -l inplace -d 'Write into existing files, not to new ones'
__drover_option sync -- -l no-moves -d 'Copy and delete what was renamed in SRC'
__drover_option sync -- -l manifest -r -F -d 'Remember in a file what DST holds'
__drover_option sync -- -l no-manifest -d 'Remember nothing of DST'
__drover_option sync -- -l verify -d 'Read again from the disk what was copied'
__drover_option sync -- -l fsync -x -a 'end each none' -d 'When to write to disk'
__drover_option sync -- -l delete -d 'Remove from DST what SRC does not have'
__drover_option sync -- -l max-delete -x -d 'No more than so many entries, or per cent'
__drover_option sync -- -l force -d 'Delete although SRC is empty or another file system'
__drover_option sync -- -l chown -x -a '(__fish_complete_users)' -d 'Own everything so'
__drover_option sync -- -l usermap -x -a '(__fish_complete_users)' -d 'Map owners'
__drover_option sync -- -l groupmap -x -a '(__fish_complete_groups)' -d 'Map groups'
__drover_option sync -- -l numeric-ids -d 'Keep owners as numbers (the default)'
__drover_option sync -- -l no-owner -d 'Do not set owners and groups'
__drover_option sync -- -l no-perms -d 'Do not set mode bits and ACLs'
__drover_option sync -- -l no-times -d 'Do not set times'
__drover_option sync -- -l no-acl -d 'Do not set ACLs'
__drover_option sync -- -l no-xattr -d 'Do not set extended attributes'
__drover_option sync -- -l hard-links -d 'Keep hard links (the default)'
__drover_option sync -- -l no-hard-links -d 'Copy each name of a file on its own'
__drover_option sync -- -l best-effort -d 'What DST cannot hold does not change the exit code'
__drover_option sync -- -s n -l dry-run -d 'Change nothing'
__drover_option sync -- -s i -l itemize -d "Show every change, with rsync's codes"

# verify
__drover_option verify -- -a '(__fish_complete_directories)'
__drover_option verify -- -l against -r -F -d 'A manifest, instead of another tree'

# manifest
__drover_option 'manifest create' -- -a '(__fish_complete_directories)'
__drover_option 'manifest create' -- -s o -l output -r -F -d 'The manifest'
__drover_option 'manifest create' -- -l update -d 'Read only what changed since'
__drover_option 'manifest create' -- -l full -d 'Read everything, replace the manifest'
__drover_option 'manifest create' -- -l resume -d 'Go on with an unfinished manifest (the default)'
__drover_option 'manifest create' -- -l restart -d 'Forget an unfinished manifest'
__drover_option 'manifest create' -- -l digest -x -a 'xxh128 sha256 blake2b' -d 'How files are hashed'
__drover_option 'manifest create' -- -l block-size -x -d 'How exactly damage is told'
__drover_option 'manifest create' 'manifest info' -- -l root -x -a '(__fish_append , content mode owner times acl xattr all)' -d 'A root digest of these'
__drover_option 'manifest check' 'manifest diff' 'manifest info' 'manifest export' -- -F
__drover_option 'manifest info' -- -l json -d 'Tell it as a JSON object'
__drover_option 'manifest export' -- -l format -x -a 'xxhsum jsonl sqlite csv' -d 'The form'
__drover_option 'manifest export' -- -s o -l output -r -F -d 'A new file'

# bench
__drover_option bench -- -a '(__fish_complete_directories)'
__drover_option bench -- -l time -x -d 'Take about so many seconds'
__drover_option bench -- -s j -l jobs -x -d 'Try no more than so many at once'
__drover_option bench -- -l scratch-size -x -d 'Write no more than so much to DST'
__drover_option bench -- -l link -x -a '(__fish_print_hostnames)' -d 'Measure the way to this host'
__drover_option bench -- -l report -r -F -d 'A page for a browser'

# ctl
function __drover_runs
    command -q drover; and drover ctl 2>/dev/null | awk 'NR > 1 { print $1; if ($2 != "-") print $2 }'
end
__drover_option ctl -- -l json -d 'Tell it in JSON'
complete -c drover -n '__drover_after ctl' -a '(__drover_runs)'
complete -c drover -n '__drover_at ctl; and test (count (commandline -opc)) -eq 3' -a set
complete -c drover -n '__drover_at ctl; and test (count (commandline -opc)) -gt 3' -a 'jobs= bwlimit= max-latency= max-load='

# serve and keygen
__drover_option serve -- -l config -r -F -d 'Serve what this file allows'
__drover_option serve -- -l check -d 'Only tell what is wrong with it'
__drover_option serve -- -l stdio -d 'Serve one session on standard input and output'
__drover_option keygen -- -F
__drover_option keygen -- -l name -x -d 'Whose key it is'

functions -e __drover_option
