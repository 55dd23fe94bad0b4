#!/bin/sh
# Proposes new results as a change: a branch of the day, and a pull request. Without new results it does nothing.
set -eu

git add results STATUS.md README.md
if git diff --cached --quiet; then
	echo "no new results"
	exit 0
fi
branch=results-$(date -u +%Y-%m-%d-%H%M)
git -c user.name=nightly -c user.email=nightly@users.noreply.github.com commit -m "results of $branch"
git push origin "HEAD:refs/heads/$branch"
gh pr create --head "$branch" --title "results of $branch" --body "What the nightly run measured; STATUS.md says what held."
