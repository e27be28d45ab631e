# SPDX-License-Identifier: Apache-2.0
# fish completion for drover(1)

function __drover_sync -d 'Completes an option of drover sync'
    complete -c drover -n '__fish_seen_subcommand_from sync; and not __fish_seen_subcommand_from help' $argv
end

complete -c drover -f
complete -c drover -n __fish_use_subcommand -a sync -d 'Make one tree equal to another'
complete -c drover -n __fish_use_subcommand -a help -d 'Show what a command takes'
complete -c drover -n __fish_use_subcommand -l version -d 'Show the version'
complete -c drover -n __fish_use_subcommand -l help -d 'Show the commands'
complete -c drover -n '__fish_seen_subcommand_from help' -a sync -d 'Make one tree equal to another'

__drover_sync -a '(__fish_complete_directories)'
__drover_sync -l checksum -d 'Compare contents, not size and time'
__drover_sync -l size-only -d 'Compare sizes, not times'
__drover_sync -l ignore-existing -d 'Leave files alone that DST has already'
__drover_sync -s u -l update -d 'Leave files alone that are newer in DST'
__drover_sync -l exclude -x -d 'Leave out what matches'
__drover_sync -l include -x -d 'Do not leave out what matches'
__drover_sync -l exclude-from -r -F -d 'Patterns from a file'
__drover_sync -s x -l one-file-system -d 'Do not enter file systems mounted below SRC'
__drover_sync -l inplace -d 'Write into existing files, not to new ones'
__drover_sync -l fsync -x -a 'end each none' -d 'When to write to disk'
__drover_sync -l delete -d 'Remove from DST what SRC does not have'
__drover_sync -l max-delete -x -d 'No more than so many entries, or per cent'
__drover_sync -l force -d 'Delete although SRC is empty or another file system'
__drover_sync -l chown -x -a '(__fish_complete_users)' -d 'Own everything so'
__drover_sync -l usermap -x -a '(__fish_complete_users)' -d 'Map owners'
__drover_sync -l groupmap -x -a '(__fish_complete_groups)' -d 'Map groups'
__drover_sync -l numeric-ids -d 'Keep owners as numbers (the default)'
__drover_sync -l no-owner -d 'Do not set owners and groups'
__drover_sync -l no-perms -d 'Do not set mode bits and ACLs'
__drover_sync -l no-times -d 'Do not set times'
__drover_sync -l no-acl -d 'Do not set ACLs'
__drover_sync -l no-xattr -d 'Do not set extended attributes'
__drover_sync -l hard-links -d 'Keep hard links (the default)'
__drover_sync -l no-hard-links -d 'Copy each name of a file on its own'
__drover_sync -l best-effort -d 'What DST cannot hold does not change the exit code'
__drover_sync -s j -l jobs -x -d 'Do so many things at once'
__drover_sync -l io -x -a 'auto uring threads' -d 'How reads and writes are kept in flight'
__drover_sync -l bwlimit -x -d 'No more than so much per second'
__drover_sync -s n -l dry-run -d 'Change nothing'
__drover_sync -s i -l itemize -d "Show every change, with rsync's codes"
__drover_sync -s v -l verbose -d 'Show the name of every change, and notes'
__drover_sync -s q -l quiet -d 'Show errors only'
__drover_sync -l stats -d 'Show all figures at the end'
__drover_sync -l json -d 'Tell everything in JSON'
__drover_sync -l log-file -r -F -d 'Append every change and error to a file'
__drover_sync -l help -d 'Show the options'

functions -e __drover_sync
