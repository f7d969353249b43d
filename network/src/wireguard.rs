//! The kernel's WireGuard: a device is given its key and its far ends, and is asked how those are (generic netlink,
//! linux/wireguard.h).

use crate::policy;
use futures_util::StreamExt;
use genetlink::{GenetlinkError, GenetlinkHandle};
use netlink_packet_generic::GenlMessage;
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute, WireguardCmd,
    WireguardDeviceFlags, WireguardMessage, WireguardPeer as Message, WireguardPeerAttribute, WireguardPeerFlags,
};
use raven_model::prefix::Prefix;
use raven_model::tunnel::{PEERS_MAX, PublicKey, ROUTES_MAX, Refusal, WireguardKey, WireguardPeer, WireguardSeen};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use std::net::IpAddr;

/// Gives the device of this number a key and far ends; those that it had are gone, with what was agreed with them. What
/// was left out.
///
/// # Errors
/// As they are said to operators.
pub async fn set(
    handle: &mut GenetlinkHandle,
    index: u32,
    key: &WireguardKey,
    port: Option<u16>,
    peers: &[WireguardPeer],
) -> Result<Vec<Refusal>, String> {
    if peers.len() > PEERS_MAX || peers.iter().any(|peer| peer.allowed_ips.len() > ROUTES_MAX) {
        return Err(format!("a device of WireGuard has {PEERS_MAX} far ends at most, with {ROUTES_MAX} networks each"));
    }
    let endpoints: Vec<IpAddr> = peers.iter().filter_map(|peer| Some(peer.endpoint?.ip())).collect();
    let (taken, refused) = policy::endpoints(&endpoints);
    let port = port.map(WireguardAttribute::ListenPort);
    let attributes = [
        WireguardAttribute::IfIndex(index),
        WireguardAttribute::PrivateKey(*key.expose()),
        WireguardAttribute::Flags(WireguardDeviceFlags::ReplacePeers),
        WireguardAttribute::Peers(peers.iter().map(|peer| message(peer, &taken)).collect()),
    ];
    let attributes = attributes.into_iter().chain(port).collect();
    ask(handle, WireguardCmd::SetDevice, attributes, NLM_F_ACK).await?;
    Ok(refused)
}

/// How the far ends of a device are.
///
/// # Errors
/// As they are said to operators.
pub async fn look(handle: &mut GenetlinkHandle, index: u32) -> Result<Vec<WireguardSeen>, String> {
    let attributes = vec![WireguardAttribute::IfIndex(index)];
    let told = ask(handle, WireguardCmd::GetDevice, attributes, NLM_F_DUMP).await?;
    let mut seen: Vec<WireguardSeen> = Vec::new();
    for attribute in told {
        let WireguardAttribute::Peers(peers) = attribute else { continue };
        // One with many networks is told in parts; the first has all but those.
        for peer in peers.iter().filter_map(read) {
            if seen.iter().all(|known| known.public_key != peer.public_key) && seen.len() < PEERS_MAX {
                seen.push(peer);
            }
        }
    }
    Ok(seen)
}

fn message(peer: &WireguardPeer, endpoints: &[IpAddr]) -> Message {
    let mut attributes = vec![
        WireguardPeerAttribute::PublicKey(peer.public_key.0),
        WireguardPeerAttribute::Flags(WireguardPeerFlags::ReplaceAllowedIps),
        WireguardPeerAttribute::PersistentKeepalive(peer.keepalive),
        WireguardPeerAttribute::AllowedIps(peer.allowed_ips.iter().map(network).collect()),
    ];
    let endpoint = peer.endpoint.filter(|endpoint| endpoints.contains(&endpoint.ip()));
    attributes.extend(endpoint.map(WireguardPeerAttribute::Endpoint));
    let key = peer.preshared_key.as_ref().map(|key| *key.expose());
    attributes.extend(key.map(WireguardPeerAttribute::PresharedKey));
    Message(attributes)
}

fn network(net: &Prefix) -> WireguardAllowedIp {
    let is_v4 = net.addr().is_ipv4();
    let family = if is_v4 { WireguardAddressFamily::Ipv4 } else { WireguardAddressFamily::Ipv6 };
    WireguardAllowedIp(vec![
        WireguardAllowedIpAttr::Family(family),
        WireguardAllowedIpAttr::IpAddr(net.addr()),
        WireguardAllowedIpAttr::Cidr(net.len()),
    ])
}

fn read(peer: &Message) -> Option<WireguardSeen> {
    let mut seen = WireguardSeen { public_key: PublicKey([0; 32]), endpoint: None, handshake: 0, received: 0, sent: 0 };
    let mut key = None;
    for attribute in &peer.0 {
        match attribute {
            WireguardPeerAttribute::PublicKey(bytes) => key = Some(PublicKey(*bytes)),
            WireguardPeerAttribute::Endpoint(endpoint) => seen.endpoint = Some(*endpoint),
            WireguardPeerAttribute::LastHandshake(at) => seen.handshake = u64::try_from(at.seconds).unwrap_or_default(),
            WireguardPeerAttribute::RxBytes(bytes) => seen.received = *bytes,
            WireguardPeerAttribute::TxBytes(bytes) => seen.sent = *bytes,
            _ => {}
        }
    }
    Some(WireguardSeen { public_key: key?, ..seen })
}

/// Asks the kernel; what it tells.
async fn ask(
    handle: &mut GenetlinkHandle,
    cmd: WireguardCmd,
    attributes: Vec<WireguardAttribute>,
    flags: u16,
) -> Result<Vec<WireguardAttribute>, String> {
    let message = WireguardMessage { cmd, attributes };
    let mut message = NetlinkMessage::from(GenlMessage::from_payload(message));
    message.header.flags = NLM_F_REQUEST | flags;
    let mut answers = handle.request(message).await.map_err(|error| said(&error))?;
    let mut told = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.map_err(|error| said(&error.into()))?.payload {
            NetlinkPayload::InnerMessage(message) => told.extend(message.payload.attributes),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(said(&error.into())),
            _ => {}
        }
    }
    Ok(told)
}

fn said(error: &GenetlinkError) -> String {
    format!("the kernel's WireGuard: {error}")
}
