# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# The sources of a Debian package, for the workloads that build one.

# debian_source PACKAGE DIR: unpack what PACKAGE's authors released into DIR, from this machine's
# mirror, checked by apt. It has a state of its own here: the machine's apt need not know of sources.
debian_source() {
    local package=$1 dir=$2 apt=$PWD/apt mirror suite
    need apt-get tar xz
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:?only Debian is known here}")
    # shellcheck disable=SC2016  # apt expands it
    mirror=$(apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Origin: Debian' "Codename: $suite" | head -n 1)
    mkdir -p "$apt"/{lists,cache/archives}/partial "$dir"
    cat >"$apt/sources.list" <<END
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} $suite main
END
    cat >"$apt/apt.conf" <<END
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State "$apt";
Dir::State::status "/dev/null";
Dir::Cache "$apt/cache";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "2";
Acquire::Languages "none";
END
    (
        cd "$apt"
        export APT_CONFIG=$apt/apt.conf
        apt-get -q update
        apt-get -q source --download-only --only-source "$package"
    ) || die "the sources of $package could not be fetched"
    tar -xf "$apt/${package}_"*.orig.tar.?z -C "$dir" --strip-components=1
    rm -r "$apt"
}
