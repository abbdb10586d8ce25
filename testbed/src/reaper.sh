# SPDX-License-Identifier: MIT OR Apache-2.0
# Arguments: the testbed's directory, `late` or `prompt`, the directories of its cgroup. Once its device is attached, the file `original` holds what the device's
# read_ahead_kb was.
# Standard input is a pipe that only the testbed's program holds: it ends with that program, however the program ends.
dir=$1 late=$2
shift 2
trap '' HUP INT TERM
watcher=
if [ "$late" = late ]; then
    # A program that is killed while it reads from its own late device never ends: it waits for a file system whose threads, its own, are gone.
    # SIGKILL is pending in one of its threads then (signal 9: the third digit of the mask is odd). To unmount by force ends the connection and
    # all that waits for it.
    while sleep 1 && [ -d "/proc/$PPID" ]; do
        grep -qs 'SigPnd.*[13579bdf]..$' "/proc/$PPID"/task/*/status && umount -f "$dir/late"
    done &
    watcher=$!
fi
cat >/dev/null
[ -z "$watcher" ] || kill -KILL "$watcher"
# Dropped in order: nothing to do.
[ -d "$dir" ] || exit 0
for group in "$@"; do
    while read -r pid; do kill -KILL "$pid"; done <"$group/cgroup.procs"
done
# An agent over the device leaves when its parent dies, and needs a moment to put its value back and close its journal; a losetup or mount
# under way ends in it.
sleep 0.5
umount "$dir/mnt" || umount -l "$dir/mnt"
# By its file, not by its number, which another testbed's sweep may have freed for another file.
for device in /sys/block/loop*; do
    case $(cat "$device/loop/backing_file") in
    "$dir/"*)
        cat "$dir/original" >"$device/queue/read_ahead_kb"
        losetup -d "/dev/${device##*/}"
        ;;
    esac
done
# Not `if it is there`: a FUSE mount whose server is dead cannot be looked at.
umount -l "$dir/late"
rm -rf "$dir"
rmdir "$@"
