# Shell functions of ./try and ./test: packages, devices, users, id ranges, the virtual environment.  (POSIX sh, sourced)
#
# `tree` is set by the caller: the folder of this clone.  Each function says what it is about to change, and changes
# nothing that is right already.  Root, or sudo, is used in `root` and nowhere else.

say() { printf 'sbx: %s\n' "$*" >&2; }

die() {
	printf 'sbx: %s\n' "$1" >&2
	[ -z "${2:-}" ] || printf 'hint: %s\n' "$2" >&2
	exit 125
}

is_root() { [ "$(id -u)" = 0 ]; }

# proxy_settings: NAME=VALUE of the proxies, which sudo would drop and the package manager needs
proxy_settings() { env | grep -iE '^(https?|ftp|all|no)_proxy=[^[:space:]]+$' || true; }

# root COMMAND...: run as root
# shellcheck disable=SC2046  # one word per setting
root() {
	if is_root; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo env $(proxy_settings) "$@"
	elif command -v doas >/dev/null 2>&1; then
		doas env $(proxy_settings) "$@"
	else
		die "this needs root: $*" "run it as root, or install sudo"
	fi
}

# -- packages --

managers="apt-get dnf zypper pacman apk"

package_manager() {
	for manager in $managers; do
		if command -v "$manager" >/dev/null 2>&1; then
			echo "$manager"
			return
		fi
	done
}

# have NEED: whether a need of setup/packages is met
have() {
	case $1 in
	lib:*)
		for folder in /lib /usr/lib /lib64 /usr/lib64 /usr/local/lib /lib/*-linux-* /usr/lib/*-linux-*; do
			[ -e "$folder/${1#lib:}" ] && return 0
		done
		return 1
		;;
	py:*) [ -n "$(find_python)" ] ;;
	*)
		for folder in /usr/bin /bin /usr/sbin /sbin /usr/local/bin /usr/local/sbin; do
			[ -x "$folder/$1" ] && return 0
		done
		return 1
		;;
	esac
}

# packages_for ROLE MANAGER: names of the packages whose need is not met, one line
packages_for() {
	column=3
	for manager in $managers; do
		[ "$manager" = "$2" ] && break
		column=$((column + 1))
	done
	while read -r role need rest; do
		[ "$role" = "$1" ] || continue
		have "$need" && continue
		# shellcheck disable=SC2086  # columns
		set -- "$1" "$2" $rest
		eval "package=\${$column}"
		[ "$package" = - ] || printf '%s ' "$package"
	done <"$tree/setup/packages"
}

# install_packages ROLE...: install what is missing for these roles
install_packages() {
	manager=$(package_manager)
	missing=
	for wanted in "$@"; do
		missing="$missing$(packages_for "$wanted" "${manager:-apt-get}")"
	done
	[ -n "$missing" ] || return 0
	[ -n "$manager" ] || die "no package manager found" "install by hand: $missing"
	say "installing with $manager: $missing"
	log=$(mktemp)
	# shellcheck disable=SC2086  # a list of names
	case $manager in
	apt-get)
		{
			root apt-get -q update &&
				root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing
		}
		;;
	dnf) root dnf -y --setopt=install_weak_deps=False install $missing ;;
	zypper) root zypper --non-interactive install --no-recommends $missing ;;
	pacman) root pacman -Sy --noconfirm --needed $missing ;;
	apk) root apk add $missing ;;
	esac >"$log" 2>&1 </dev/null || {
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "install packages: $manager failed" "its last lines are above; packages: $missing"
	}
	rm -f "$log"
}

# -- devices --

# Every distribution ships these two as 0666: the kernel asks for rights where they are used, not where they are opened.
open_devices() {
	for device in /dev/fuse /dev/net/tun; do
		if [ ! -e "$device" ]; then
			module=${device##*/}
			say "loading the module $module, for $device"
			root modprobe "$module" >/dev/null 2>&1 || true
		fi
		if [ ! -e "$device" ]; then
			say "there is no $device: what needs it will be missing (a container? pass the device in)"
		elif [ -z "$(find "$device" -perm -0666 2>/dev/null)" ]; then
			say "making $device readable and writable for all users"
			root chmod 0666 "$device" || say "can not change $device"
		fi
	done
}

# -- users and ids --

passwd_of() { getent passwd "$1" 2>/dev/null || grep "^$1:" /etc/passwd; }

# home_of USER
home_of() { passwd_of "$1" | cut -d: -f6; }

# make_user USER: an ordinary account without password
make_user() {
	passwd_of "$1" >/dev/null && return
	say "creating the user $1"
	if command -v useradd >/dev/null 2>&1; then
		set -- "$1" useradd --create-home --home-dir "/var/lib/$1" --shell /bin/sh --comment "unprivileged user of sbx"
	else
		set -- "$1" adduser -D -h "/var/lib/$1" -s /bin/sh
	fi
	name=$1
	shift
	said=$(root "$@" "$name" 2>&1) || die "can not create the user $name: $said"
}

# has_range FILE USER UID
has_range() {
	[ -r "$1" ] && awk -F: -v name="$2" -v number="$3" \
		'($1 == name || $1 == number) && $3 > 0 { found = 1 } END { exit !found }' "$1"
}

# free_range FILE...: the first id of 65536 that no line of these files uses, 100000 or more
free_range() {
	cat "$@" 2>/dev/null | awk -F: '
		BEGIN { n = 0 }
		$3 > 0 { first[n] = $2 + 0; last[n++] = $2 + $3 - 1 }
		END {
			start = 100000
			do {
				moved = 0
				for (i = 0; i < n; i++)
					if (first[i] < start + 65536 && start <= last[i]) { start += 65536; moved = 1 }
			} while (moved)
			print start
		}'
}

# append_line FILE LINE: as root, after a last line that may lack its end
append_line() {
	# shellcheck disable=SC2016  # expanded by the inner shell
	root sh -c '[ ! -s "$1" ] || [ -z "$(tail -c 1 "$1")" ] || echo >>"$1"; printf "%s\n" "$2" >>"$1"' sh "$1" "$2"
}

# ensure_range USER: subordinate user and group ids for USER
ensure_range() {
	number=$(id -u "$1")
	start=
	for file in /etc/subuid /etc/subgid; do
		has_range "$file" "$1" "$number" && continue
		if grep -q '^subid:' /etc/nsswitch.conf 2>/dev/null && getsubids "$1" >/dev/null 2>&1; then
			continue # the directory service has one
		fi
		[ -n "$start" ] || start=$(free_range /etc/subuid /etc/subgid)
		say "giving $1 the ids $start-$((start + 65535)) in $file"
		if [ "$file" = /etc/subuid ]; then option=--add-subuids; else option=--add-subgids; fi
		# usermod does not know users of a directory service
		{ command -v usermod && root usermod "$option" "$start-$((start + 65535))" "$1"; } >/dev/null 2>&1 ||
			append_line "$file" "$1:$start:65536"
		root chmod a+r "$file"
	done
}

# as_user USER COMMAND...: as that user, with a clean environment that keeps proxy, pip and terminal settings
as_user() {
	user=$1
	shift
	home=$(home_of "$user")
	for name in $(awk 'BEGIN { for (name in ENVIRON) print name }'); do
		case $name in
		*_proxy | *_PROXY | PIP_* | SSL_CERT_* | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | TERM | COLUMNS | NO_COLOR | \
			LANG | LC_* | TZ | CI | GITHUB_ACTIONS | SOURCE_DATE_EPOCH | SBX_* | PYTEST_* | HYPOTHESIS_*)
			eval "value=\$$name"
			# shellcheck disable=SC2154  # set by eval
			set -- "$name=$value" "$@"
			;;
		esac
	done
	set -- "HOME=$home" "USER=$user" "LOGNAME=$user" "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin" "$@"
	if setpriv --version >/dev/null 2>&1; then
		({ cd "$home" || cd /; } 2>/dev/null; exec setpriv --reuid "$(id -u "$user")" --regid "$(id -g "$user")" --init-groups env -i "$@")
	else
		({ cd "$home" || cd /; } 2>/dev/null; exec runuser -u "$user" -- env -i "$@")
	fi
}

# -- the virtual environment --

# others_reach PATH: whether users without rights of their own can get to PATH
others_reach() {
	path=$(readlink -f "$1") || return 1
	[ -n "$(find "$path" -prune -perm -0001)" ] || return 1
	while [ "$path" != / ]; do
		path=$(dirname "$path")
		[ -n "$(find "$path" -prune -perm -0001)" ] || return 1
	done
}

# find_python: a Python 3.11 or newer with venv; one that all users can execute if there is such a one
find_python() {
	for strict in 1 ''; do
		for python in /usr/bin/python3 /usr/bin/python3.1[1-9] /usr/local/bin/python3 /usr/local/bin/python3.1[1-9] \
			"$(command -v python3 || true)"; do
			[ -x "$python" ] || continue
			code='import sys, venv, ensurepip; print(sys.executable) if sys.version_info >= (3, 11) else sys.exit(1)'
			real=$("$python" -I -c "$code" 2>/dev/null) || continue
			[ -z "$strict" ] || others_reach "$real" || continue
			echo "$real"
			return
		done
	done
}

sources="sandbox profiles bin docs man completions contrib pyproject.toml setup.py setup.cfg MANIFEST.in README.md LICENSE"

# source_hash: one word for all that an installation is made of
source_hash() {
	(
		cd "$tree" || exit
		for path in $sources; do
			[ ! -e "$path" ] || find "$path" -type f ! -path '*/__pycache__/*' ! -path '*.egg-info/*' -print
		done | LC_ALL=C sort | while read -r path; do cksum "$path"; done | cksum | tr -d ' '
	)
}

# copy_tree TO: the clone without what is made from it
copy_tree() {
	(cd "$tree" && tar -cf - --exclude=./.git --exclude=./.venv --exclude=./build --exclude=./dist --exclude='*.egg-info' \
		--exclude='__pycache__' --exclude='./.*_cache' --exclude=./.hypothesis .) | (cd "$1" && tar -xf - --no-same-owner)
}

# build_environment [EXTRA]: .venv with sbx installed from this clone, executable for all users of the machine
build_environment() {
	umask 022
	environment=$tree/.venv
	if ! others_reach "$tree"; then
		if is_root; then
			environment=/usr/local/lib/sbx/venv-$(printf %s "$tree" | cksum | cut -d' ' -f1)
		else
			say "note: other users can not reach $tree, so .venv/bin/sbx is for you alone"
		fi
	fi
	python=$(find_python)
	[ -n "$python" ] || die "there is no Python 3.11 or newer with the modules venv and ensurepip" \
		"install one from your distribution (python3.11, python3.12)"
	others_reach "$python" || say "note: other users can not execute $python, so .venv/bin/sbx is for you alone"
	stamp="$(source_hash) $environment $python"
	if [ "$environment" != "$tree/.venv" ]; then
		[ "$(readlink "$tree/.venv")" = "$environment" ] || {
			rm -rf "$tree/.venv"
			mkdir -p "${environment%/*}"
			ln -s "$environment" "$tree/.venv"
		}
	fi
	if [ "$(cat "$environment/.sbx-installed" 2>/dev/null)" = "$stamp" ] && [ -x "$environment/bin/sbx" ] &&
		{ [ -z "${1:-}" ] || [ -e "$environment/.sbx-with-$1" ]; }; then
		return 0
	fi
	say "installing sbx${1:+ and its $1 tools} into $environment, with $python"
	# An environment of another interpreter or place does not work, whatever is in it.
	case "$(cat "$environment/.sbx-installed" 2>/dev/null)" in
	*" $environment $python") ;;
	*) "$python" -m venv --clear "$environment" || die "can not create a virtual environment in $environment" ;;
	esac
	rm -f "$environment/.sbx-installed"
	# Built from a copy: setuptools writes into the folder it builds, and keeps deleted files alive in build/.
	work=$(mktemp -d)
	copy_tree "$work"
	extra=${1:-}
	[ -n "$extra" ] || [ ! -e "$environment/.sbx-with-test" ] || extra=test # stays complete
	if ! "$environment/bin/python" -m pip install --quiet --upgrade "$work${extra:+[$extra]}" >"$work.log" 2>&1 </dev/null; then
		tail -n 30 "$work.log" >&2
		rm -rf "$work" "$work.log"
		die "pip could not install sbx" "its last lines are above; proxy and index come from pip's own settings: pip config list"
	fi
	rm -rf "$work" "$work.log"
	# What a start reads at once, instead of forty files: users of this environment can not write it themselves.
	"$environment/bin/python" -Im sandbox.cli.bundle || say "note: each start of sbx will take 2 ms longer"
	[ -z "$extra" ] || : >"$environment/.sbx-with-$extra"
	chmod -R a+rX "$environment"
	echo "$stamp" >"$environment/.sbx-installed"
}
