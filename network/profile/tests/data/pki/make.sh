set -e
# Makes what the profiles of these tests hold. Dates are fixed: 2024-01-01 to 2044-01-01 unless the name says otherwise.
mkdir -p db && : > db/index && echo 01 > db/serial && echo 01 > db/crl
cat > ca.cnf <<'C'
[ca]
default_ca = d
[d]
database = db/index
serial = db/serial
crlnumber = db/crl
new_certs_dir = db
default_md = sha256
policy = p
unique_subject = no
[p]
commonName = supplied
organizationName = optional
[ca_x]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[client_x]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = clientAuth
[server_x]
basicConstraints = CA:FALSE
keyUsage = digitalSignature
extendedKeyUsage = serverAuth
[req]
distinguished_name = dn
[dn]
C
FROM=20240101000000Z; TO=20440101000000Z
ec() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:$1 -out $2.key; }
sign() { openssl req -new -key $1.key -subj "/O=Raven tests/CN=$1" -config ca.cnf -out $1.csr
  openssl ca -batch -notext -config ca.cnf -extensions $2 -startdate $3 -enddate $4 -in $1.csr -out $1.crt $5 2>/dev/null; }
self() { sign $1 ca_x $2 $3 "-selfsign -keyfile $1.key"; }
ec P-256 ca; self ca $FROM $TO
ec P-256 other-ca; self other-ca $FROM $TO
ec P-256 expired-ca; self expired-ca 20200101000000Z 20240601000000Z
by() { echo "-cert $1.crt -keyfile $1.key"; }
ec P-256 p256; sign p256 client_x $FROM $TO "$(by ca)"
ec P-384 p384; sign p384 client_x $FROM $TO "$(by ca)"
ec P-521 p521; sign p521 client_x $FROM $TO "$(by ca)"
openssl genpkey -algorithm ED25519 -out ed25519.key; sign ed25519 client_x $FROM $TO "$(by ca)"
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key; sign rsa client_x $FROM $TO "$(by ca)"
ec P-256 expired; sign expired client_x 20200101000000Z 20240601000000Z "$(by ca)"
ec P-256 future; sign future client_x 20300101000000Z $TO "$(by ca)"
ec P-256 stranger; sign stranger client_x $FROM $TO "$(by other-ca)"
ec P-256 server; sign server server_x $FROM $TO "$(by ca)"
openssl ec -in p256.key -out p256.sec1.key 2>/dev/null
openssl rsa -in rsa.key -traditional -out rsa.pkcs1.key 2>/dev/null
openssl pkcs8 -topk8 -in p256.key -passout pass:raven -v2 aes-256-cbc -out p256.enc.key
openssl rsa -in rsa.key -traditional -aes256 -passout pass:raven -out rsa.enc.key 2>/dev/null
openssl pkcs12 -export -inkey p256.key -in p256.crt -certfile ca.crt -passout pass: -out p256.p12
openssl x509 -in p256.crt -text -out p256.text.crt
openssl ca -gencrl -config ca.cnf -cert ca.crt -keyfile ca.key -crldays 7000 -out ca.crl 2>/dev/null
openvpn --genkey secret ta.key
openvpn --genkey tls-crypt-v2-server v2-server.key
openvpn --tls-crypt-v2 v2-server.key --genkey tls-crypt-v2-client v2-client.key
