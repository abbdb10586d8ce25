# SPDX-License-Identifier: MIT OR Apache-2.0
# Arguments: the testbed's directory, its device (loop3), that device's read_ahead_kb, the directories of its cgroup.
# Standard input is a pipe that only the testbed's program holds: it ends with that program, however the program ends.
dir=$1 device=$2 original=$3
shift 3
trap '' HUP INT TERM
cat >/dev/null
# Dropped in order: nothing to do.
[ -d "$dir" ] || exit 0
for group in "$@"; do
    while read -r pid; do kill -KILL "$pid"; done <"$group/cgroup.procs"
done
# An agent over the device leaves when its parent dies; it needs a moment to put its value back and close its journal.
sleep 0.5
umount "$dir/mnt" || umount -l "$dir/mnt"
# Another testbed's sweep may have been faster, and the number given to another file since.
case $(cat "/sys/block/$device/loop/backing_file") in
"$dir/"*)
    echo "$original" >"/sys/block/$device/queue/read_ahead_kb"
    losetup -d "/dev/$device"
    ;;
esac
# Not `if it is there`: a FUSE mount whose server is dead cannot be looked at.
umount -l "$dir/late"
rm -rf "$dir"
rmdir "$@"
