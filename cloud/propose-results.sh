#!/bin/sh
# Proposes new results as a change: a branch for the day, and a pull request. Without new results it does nothing.
#
#   cloud/propose-results.sh                     commit, push, open the pull request
#   cloud/propose-results.sh pack part.tgz       pack what this checkout has measured, without what is rendered from it, into an archive
#   cloud/propose-results.sh unpack a.tgz ...    unpack what several checkouts have measured into this one; each has its own scenarios, and so its own files
set -eu

case "${1:-propose}" in
pack)
	git add results
	git diff --cached --name-only --diff-filter=d -z -- results ':!results/index.html' ':!results/PERFORMANCE.md' >"$2.names"
	tar -czf "$2" --null -T "$2.names"
	rm "$2.names"
	exit 0
	;;
unpack)
	shift
	for part in "$@"; do
		tar -xzf "$part"
	done
	exit 0
	;;
propose) ;;
*)
	echo "usage: $0 [pack FILE | unpack FILE...]" >&2
	exit 2
	;;
esac

git add results STATUS.md README.md
if git diff --cached --quiet; then
	echo "no new results"
	exit 0
fi
branch=results-$(date -u +%Y-%m-%d-%H%M)
git -c user.name=nightly -c user.email=nightly@users.noreply.github.com commit -m "results of $branch"
git push origin "HEAD:refs/heads/$branch"
gh pr create --head "$branch" --title "results of $branch" --body "What the nightly run measured; STATUS.md says what held."
