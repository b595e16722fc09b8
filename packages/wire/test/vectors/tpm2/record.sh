#!/bin/sh
# Records quotes.json with a software TPM. Needs swtpm, swtpm-tools, tpm2-tools and openssl (Debian packages).
# usage: sh record.sh > quotes.json       The keys live in a temporary folder and are thrown away.
set -eu
T=$(mktemp -d)
trap 'kill "$(cat "$T/pid")" 2>/dev/null || true; rm -rf "$T"' EXIT
cd "$T"
mkdir state
swtpm_setup --tpm2 --tpmstate "$T/state" --create-ek-cert --overwrite >&2
swtpm socket --tpm2 --tpmstate dir="$T/state" --ctrl type=unixio,path="$T/sock.ctrl" \
  --server type=unixio,path="$T/sock" --flags not-need-init,startup-clear --daemon --pid file="$T/pid"
export TPM2TOOLS_TCTI="swtpm:path=$T/sock"
DIGEST=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
flush() { tpm2_flushcontext -t >&2; }

tpm2_pcrextend 10:sha256="$(printf 'gym-node' | sha256sum | cut -d' ' -f1)" >&2
tpm2_createek -c ek.ctx -G rsa -u ek.pub >&2; flush
quote() { # name, scheme
  tpm2_quote -c "$1.ctx" -l sha256:0,1,10 -q $DIGEST -m "$1.msg" -s "$1.sig" -o "$1.pcr" -F values -g sha256 --scheme "$2" >&2; flush
  tpm2_readpublic -c "$1.ctx" -f pem -o "$1.pem" >&2; flush
}
for k in "rsassa rsa" "rsapss rsa" "ecdsa ecc"; do
  set -- $k
  tpm2_createak -C ek.ctx -c "$1.ctx" -G "$2" -g sha256 -s "$1" -u "$1.pub" -n "$1.name" >&2; flush
  quote "$1" "$1"
done
# A key that is not restricted: it would sign any bytes, so a quote made with it proves nothing.
tpm2_createprimary -C o -c primary.ctx >&2; flush
tpm2_create -C primary.ctx -G ecc:ecdsa -u loose.pub -r loose.priv -a 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign' >&2; flush
tpm2_load -C primary.ctx -u loose.pub -r loose.priv -c loose.ctx -n loose.name >&2; flush
quote loose ecdsa
# A TPMS_ATTEST that is no quote, signed by the good RSA key.
tpm2_certify -c primary.ctx -C rsassa.ctx -g sha256 -o certify.msg -s certify.sig -f tss >&2; flush

# An attestation authority: root, intermediate, and certificates for the keys above.
new() { openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$2" 2>/dev/null; }
root() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.crt" -subj "/CN=$2" -days 36500 2>/dev/null; }
issue() { # out, csr, issuer, extensions, days, [public key]
  openssl x509 -req -in "$2.csr" ${6:+-force_pubkey "$6.pem"} -CA "$3.crt" -CAkey "$3.key" -CAcreateserial -out "$1.crt" -days "$5" -extfile "$4" 2>/dev/null
}
printf 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n' > ca.ext
printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n' > leaf.ext
root root "test attestation root"
root other_root "another root"
new intermediate "test attestation authority"; issue intermediate intermediate root ca.ext 36500
new leaf "test attestation key"
issue rsassa leaf intermediate leaf.ext 36500 rsassa
issue ecdsa leaf intermediate leaf.ext 36500 ecdsa
issue ecdsa_one_day leaf intermediate leaf.ext 1 ecdsa
issue leaf leaf intermediate leaf.ext 36500
issue ecdsa_by_leaf leaf leaf leaf.ext 36500 ecdsa

b64() { base64 -w0 "$1"; }
hexd() { od -An -v -tx1 "$1" | tr -d ' \n'; }
printf '{\n  "digest": "%s",\n  "quotes": {\n' $DIGEST
sep=''
for k in rsassa rsapss ecdsa loose; do
  printf '%s    "%s": {\n      "public_area": "%s",\n      "name": "%s",\n      "attest": "%s",\n      "signature": "%s",\n      "pcrs": "%s"\n    }' \
    "$sep" $k "$(b64 $k.pub)" "$(hexd $k.name)" "$(b64 $k.msg)" "$(b64 $k.sig)" "$(hexd $k.pcr)"
  sep=',
'
done
printf '\n  },\n  "certify": { "attest": "%s", "signature": "%s" },\n  "certificates": {\n' "$(b64 certify.msg)" "$(b64 certify.sig)"
sep=''
for c in root other_root intermediate leaf rsassa ecdsa ecdsa_one_day ecdsa_by_leaf; do
  printf '%s    "%s": "%s"' "$sep" $c "$(openssl x509 -in $c.crt -outform der | base64 -w0)"
  sep=',
'
done
printf '\n  }\n}\n'
