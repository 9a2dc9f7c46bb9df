# What there is to tell of this boot: a file's name and its content in a line.
cd /run/hostline || exit 0
for one in begun started ended initscript.said; do
    [ -f $one ] && read -r words <$one && printf '%s %.60s\n' $one "$words"
done
[ -f failure ] && read -r words <failure && printf 'failure %.300s\n' "$words"
exit 0
