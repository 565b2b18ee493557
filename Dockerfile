# The images: `docker build --target operator|agent|relay .` (or buildah, or podman). What runs
# needs no network but the cluster's.
#
# BASE: a Debian bookworm with nothing but apt.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS python
# libatomic1: atomic operations on memory shared with the kernel; libssl3: ChaCha20
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends python3 libatomic1 libssl3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/*/* /var/log/*
ENV PATH=/opt/fastrelay/bin:$PATH PYTHONUNBUFFERED=1

FROM python AS requirements
WORKDIR /source
COPY pyproject.toml ./
COPY scripts/requirements.py scripts/
# Always of the same time: as long as their words are the same, so is what is made from them.
RUN mkdir /requirements \
    && python3 scripts/requirements.py >/requirements/relay.txt \
    && python3 scripts/requirements.py operator agent >/requirements/kubernetes.txt \
    && find /requirements -exec touch -d @0 {} +

FROM python AS dependencies
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends python3-pip python3-venv ca-certificates
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY constraints.txt ./
COPY --from=requirements /requirements /requirements
# The environment has no pip of its own; bytecode that names no time makes builds comparable.
RUN python3 -m venv --without-pip /opt/fastrelay \
    && pip install --quiet --target /build --constraint constraints.txt setuptools wheel \
    && pip --python /opt/fastrelay/bin/python install --quiet --no-compile --only-binary :all: \
        --constraint constraints.txt --requirement /requirements/relay.txt \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/fastrelay/lib

FROM dependencies AS kubernetes-dependencies
RUN pip --python /opt/fastrelay/bin/python install --quiet --no-compile --only-binary :all: \
        --constraint constraints.txt --requirement /requirements/kubernetes.txt \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/fastrelay/lib

FROM dependencies AS package
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends gcc libc6-dev libssl-dev
COPY pyproject.toml LICENSE README.md ./
COPY bpf bpf
COPY relay_agent relay_agent
COPY operator operator
# Apart from what it depends on, so that this alone is made anew when a line of it changes.
RUN PYTHONPATH=/build /usr/bin/python3 -m pip wheel --quiet --no-deps --no-build-isolation \
        --wheel-dir / . \
    && pip --python /opt/fastrelay/bin/python install --quiet --no-compile --no-deps \
        --prefix /package /fastrelay-*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash \
        -s /package -p /opt/fastrelay /package/lib

FROM python AS headers
# bcc wants one tree; Debian's is in two halves, and only headers of it are needed.
RUN apt-get update -qq \
    && apt-get download -qq -o APT::Sandbox::User=root $(apt-cache depends \
        linux-headers-$(dpkg --print-architecture) \
        | sed -n 's/ *Depends: \(linux-headers-[0-9].*\)/\1/p') \
    && apt-get download -qq -o APT::Sandbox::User=root $(dpkg-deb -f linux-headers-*.deb Depends \
        | grep -o 'linux-headers-[^ ,]*-common') \
    && for package in linux-headers-*.deb; do dpkg-deb -x $package /unpacked; done \
    && mkdir /headers \
    && for half in /unpacked/usr/src/linux-headers-*; do \
        (cd $half && find include arch -path '*include/*.h' | tar -c -T - | tar -x -C /headers) \
        || exit 1; \
    done

FROM python AS bcc
RUN apt-get update -qq \
    && apt-get install -qq -y --no-install-recommends python3-bpfcc \
    && rm -rf /var/lib/apt/lists/* /var/cache/*/* /var/log/*

FROM python AS relay
COPY --from=dependencies /opt/fastrelay /opt/fastrelay
COPY --from=package /package /opt/fastrelay
USER 65534:65534
ENTRYPOINT ["fastrelay"]
CMD ["relay"]

FROM python AS operator
COPY --from=kubernetes-dependencies /opt/fastrelay /opt/fastrelay
COPY --from=package /package /opt/fastrelay
USER 65534:65534
ENTRYPOINT ["fastrelay-operator"]

FROM bcc AS agent
COPY --from=headers /headers /usr/src/kernel-headers
COPY --from=kubernetes-dependencies /opt/fastrelay /opt/fastrelay
COPY --from=package /package /opt/fastrelay
ENV BCC_KERNEL_SOURCE=/usr/src/kernel-headers
# What is compiled now need not be compiled on every node.
RUN fastrelay agent --compile
ENTRYPOINT ["fastrelay"]
CMD ["agent", "--kubernetes"]
